"""POST /generate and /v1/generations."""

from __future__ import annotations

import io
import time

import httpx
import pytest
from PIL import Image

from movq_core.params import MAX_SEED, derived_seed
from tests.service.standin import StandIn, known_jobs


def test_json_with_links_seed_and_timings(client: httpx.Client, worker: StandIn) -> None:
    answer = client.post("/generate", json={"class_id": 3, "steps": 12})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["status"] == "succeeded"
    assert job["kind"] == "generate"
    assert job["request"]["class_name"] == "animals"
    assert job["request"]["steps"] == 12
    assert job["seeds"] == [job["request"]["seed"]]
    assert 0 <= job["seeds"][0] <= MAX_SEED
    assert job["timings"]["ran_s"] == 0.02
    assert job["timings"]["total_s"] >= job["timings"]["queued_s"] >= 0
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert job["position"] is None
    image = client.get(job["images"][0])
    assert image.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(image.content)).size == (64, 64)


@pytest.mark.parametrize("name", ["png", "webp", "jpeg"])
def test_the_image_itself_when_accept_asks_for_it(client: httpx.Client, worker: StandIn, name: str) -> None:
    answer = client.post("/generate", json={"class_name": "hearts"}, headers={"accept": f"image/{name}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{name}"
    assert Image.open(io.BytesIO(answer.content)).format == name.upper()
    job = client.get(f"/v1/jobs/{answer.headers['x-movq-job-id']}").json()
    assert str(job["seeds"][0]) == answer.headers["x-movq-seed"]


def test_what_is_left_out_comes_from_the_manifest(client: httpx.Client, worker: StandIn) -> None:
    request = client.post("/generate", json={"temperature": 0.5}).json()["request"]
    assert (request["steps"], request["guidance_scale"], request["choice_temperature"]) == (10, 2.5, 3.0)
    assert request["temperature"] == 0.5
    assert request["class_id"] is None


def test_the_request_of_a_job_sent_again_gives_the_same_images(client: httpx.Client, worker: StandIn) -> None:
    first = client.post("/generate", json={"class_id": 0, "num_images": 4}).json()
    second = client.post("/generate", json=first["request"]).json()
    assert second["images"] == first["images"]
    assert second["seeds"] == [derived_seed(first["request"]["seed"], index) for index in range(4)]
    assert second["id"] != first["id"]


def test_a_missing_seed_is_drawn_each_time(client: httpx.Client, worker: StandIn) -> None:
    seeds = {client.post("/generate", json={}).json()["request"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_short_face_falls_back_to_202_and_location(client: httpx.Client) -> None:
    answer = client.post("/generate?wait=0", json={}, headers={"accept": "image/png"})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert job["status"] == "queued"
    assert job["position"] == 1


def test_short_face_waits_as_long_as_it_is_told(client: httpx.Client) -> None:
    started = time.monotonic()
    assert client.post("/generate?wait=0.3", json={}).status_code == 202
    assert 0.3 <= time.monotonic() - started < 2


def test_v1_answers_202_at_once_and_the_job_can_be_followed(client: httpx.Client, worker: StandIn) -> None:
    worker.hold()
    answer = client.post("/v1/generations", json={"class_id": 1})
    assert answer.status_code == 202
    worker.release()
    deadline = time.monotonic() + 10
    while (job := client.get(answer.headers["location"]).json())["status"] != "succeeded":
        assert time.monotonic() < deadline
    assert len(job["images"]) == 1


def test_v1_honours_prefer_wait(client: httpx.Client, worker: StandIn) -> None:
    answer = client.post("/v1/generations", json={}, headers={"prefer": "respond-async, wait=10"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=10"
    assert answer.json()["status"] == "succeeded"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"class_id": 12}, 422, "0 to 11"),
        ({"class_id": -1}, 422, "greater than or equal to 0"),
        ({"class_id": 3, "class_name": "hearts"}, 422, "class_id 3 is 'animals'"),
        ({"class_name": "unicorns"}, 422, "faces, hearts, fruit"),
        ({"steps": 0}, 422, "steps: input should be greater than or equal to 1, but was 0."),
        ({"steps": 10_000}, 422, "steps: input should be less than or equal to 64, but was 10000."),
        ({"steps": "many"}, 422, "steps: input should be a number, without quotes"),
        ({"stpes": 3}, 422, "stpes is no field here; allowed are steps, seed"),
        ({"num_images": 5}, 422, "less than or equal to 4"),
        ({"seed": -1}, 422, "greater than or equal to 0"),
        ({"seed": 2**53}, 422, "seed: input should be less than or equal to 9007199254740991"),
        ({"temperature": 0}, 422, "greater than 0"),
        ({"guidance_scale": 21}, 422, "less than or equal to 20"),
        ({"mask_schedule": "sqrt"}, 422, "'cosine', 'arccos' or 'linear'"),
        ({"format": "gif"}, 422, "'png', 'webp' or 'jpeg'"),
        ([1], 422, "valid dictionary"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(
    client: httpx.Client, redis_url: str, body: object, status: int, says: str
) -> None:
    answer = client.post("/generate", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert says in problem["detail"], problem
    assert problem["detail"].endswith(".")
    assert problem["status"] == status
    assert known_jobs(redis_url) == 0


def test_errors_point_at_the_field(client: httpx.Client) -> None:
    errors = client.post("/generate", json={"steps": 0, "seed": -3}).json()["errors"]
    assert [error["pointer"] for error in errors] == ["/steps", "/seed"]
    (odd,) = client.post("/generate", json={"a/b~c.d": 0}).json()["errors"]
    assert odd["pointer"] == "/a~1b~0c.d"


@pytest.mark.parametrize(
    ("content", "content_type", "status", "says"),
    [
        (b"{", "application/json", 422, "not valid JSON"),
        (b"steps=3", "application/x-www-form-urlencoded", 415, "content-type: application/json"),
        (b"{}", "text/plain", 415, "content-type: application/json"),
    ],
)
def test_bodies_that_are_no_json(
    client: httpx.Client, content: bytes, content_type: str, status: int, says: str
) -> None:
    answer = client.post("/generate", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'{"class_name": "\\ud800"}',
        b'{"class_name": "\xff"}',
        b'{"temperature": NaN}',
        b'{"temperature": 1e999}',
        b'{"steps": ' + b"9" * 5000 + b"}",
        b'{"seed": 1.5}',
        b'{"class_id": {"a": [1]}}',
        b'{"\\ud800": 1}',
        b"[" * 60_000,
        b'{"class_name": "' + b"x" * 60_000 + b'"}',
        b'{"' + b"x" * 60_000 + b'": 1}',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_nasty_json(client: httpx.Client, redis_url: str, content: bytes) -> None:
    answer = client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 2000
    assert known_jobs(redis_url) == 0


@pytest.mark.parametrize("accept", ["text/html", "image/gif", "image/png;q=0"])
def test_accept_that_we_cannot_meet(client: httpx.Client, redis_url: str, accept: str) -> None:
    answer = client.post("/generate", json={}, headers={"accept": accept})
    assert answer.status_code == 406
    assert "application/json, image/png, image/webp, image/jpeg" in answer.json()["detail"]
    assert known_jobs(redis_url) == 0


def test_accept_against_the_body(client: httpx.Client, redis_url: str) -> None:
    answer = client.post("/generate", json={"format": "png"}, headers={"accept": "image/webp"})
    assert answer.status_code == 406
    assert known_jobs(redis_url) == 0


def test_a_wait_beyond_the_maximum(client: httpx.Client) -> None:
    answer = client.post("/generate?wait=61", json={})
    assert answer.status_code == 422
    assert "less than or equal to 60" in answer.json()["detail"]
