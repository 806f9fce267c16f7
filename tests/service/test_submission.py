"""What every POST /v1 has: idempotency, priority, deadline, webhook, watching; and the list of jobs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.service.pictures import encoded, gradient
from tests.service.standin import StandIn, known_jobs

KEY = {"idempotency-key": "order-66"}
PHOTO = {"image": encoded(gradient())}


def test_the_same_key_and_request_is_the_same_job(client: httpx.Client, redis_url: str) -> None:
    first = client.post("/v1/generations", json={"class_id": 1}, headers=KEY)
    again = client.post("/v1/generations", json={"class_id": 1}, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["request"]["seed"] == first.json()["request"]["seed"]  # the one drawn first
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert known_jobs(redis_url) == 1


def test_twenty_at_once_are_one_job(client: httpx.Client, redis_url: str) -> None:
    def ask(_: int) -> httpx.Response:
        return httpx.post(f"{client.base_url}/v1/generations", json={"class_id": 1}, headers=KEY, timeout=30)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert known_jobs(redis_url) == 1


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/v1/generations", {"json": {"class_id": 2}}),
        ("/v1/generations", {"json": {"class_id": 1, "priority": "high"}}),
        ("/generate", {"json": {"class_id": 1}}),
        ("/v1/encodings", {"files": PHOTO}),
    ],
)
def test_the_same_key_and_another_request_is_refused(
    client: httpx.Client, redis_url: str, path: str, options: dict[str, Any]
) -> None:
    client.post("/v1/generations", json={"class_id": 1}, headers=KEY)
    answer = client.post(path, headers=KEY, **options)
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_conflict"
    assert known_jobs(redis_url) == 1


def test_uploads_are_compared_by_what_they_show(client: httpx.Client) -> None:
    def ask(picture: bytes) -> httpx.Response:
        return client.post("/v1/encodings", files={"image": picture}, headers=KEY)

    first = ask(encoded(gradient(), "PNG")).json()
    assert ask(encoded(gradient(), "PNG", compress_level=9)).json()["id"] == first["id"]
    assert ask(encoded(gradient(41, 30))).status_code == 422


def test_a_key_that_is_none(client: httpx.Client) -> None:
    answer = client.post("/v1/generations", json={}, headers={"idempotency-key": "two words"})
    assert answer.status_code == 422


def test_a_finished_job_is_given_again_at_once(client: httpx.Client, worker: StandIn) -> None:
    first = client.post("/generate", json={}, headers=KEY).json()
    assert first["status"] == "succeeded"
    assert client.post("/generate", json={}, headers=KEY).json() == first


def test_who_waits_for_a_job_that_misses_its_deadline_is_told_so(
    client: httpx.Client, worker: StandIn
) -> None:
    worker.hold()
    first = client.post("/v1/generations", json={"class_id": 1}).json()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(client.post, "/generate", json={"class_id": 1, "deadline_s": 0.2})
        while len(client.get("/v1/jobs").json()["jobs"]) < 2:
            time.sleep(0.02)
        time.sleep(0.3)
        worker.release()
        answer = late.result()
    assert (answer.status_code, answer.json()["code"]) == (409, "deadline_missed")
    assert "deadline of 0.2 s passed while it waited" in answer.json()["detail"]
    assert client.get(first["links"]["self"]).json()["status"] == "succeeded"


def test_priority_and_deadline_stand_in_the_envelope(client: httpx.Client) -> None:
    query = {"priority": "low", "deadline_s": "60"}
    job = client.post("/v1/reconstructions", params=query, files=PHOTO).json()
    assert job["priority"] == "low"
    left = datetime.fromisoformat(job["deadline_at"]) - datetime.fromisoformat(job["created_at"])
    assert timedelta(seconds=55) < left < timedelta(seconds=65)
    assert client.get(job["links"]["self"]).json()["deadline_at"] is not None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://example.org/x", "URL scheme should be 'https'"),
        ("ftp://example.org/x", "URL scheme should be 'https'"),
        ("https://127.0.0.1/x", "127.0.0.1 is a private address"),
        ("https://0x7f.1/x", "127.0.0.1 is a private address"),
        ("https://[::1]/x", "::1 is a private address"),
        ("https://[::ffff:10.0.0.1]/x", "is a private address"),
        ("https://[64:ff9b::a00:1]/x", "is a private address"),  # 10.0.0.1 by way of NAT64
        ("https://169.254.169.254/latest", "is a private address"),
        ("https://localhost/x", "localhost is not a public host"),
        ("nonsense", "valid URL"),
    ],
)
def test_webhooks_that_are_refused_at_the_door(
    client: httpx.Client, redis_url: str, url: str, says: str
) -> None:
    answer = client.post("/v1/generations", json={"webhook_url": url})
    assert answer.status_code == 422
    assert says in answer.json()["detail"]
    assert answer.json()["errors"][0]["pointer"] == "/webhook_url"
    assert client.post("/v1/encodings", params={"webhook_url": url}, files=PHOTO).status_code == 422
    assert known_jobs(redis_url) == 0


def test_who_is_about_to_listen_says_so(client: httpx.Client, redis_url: str) -> None:
    plain = client.post("/v1/generations", json={}).json()
    watched = client.post("/v1/generations?watched=true", json={}).json()
    with Redis.from_url(redis_url) as connection:
        assert not connection.exists(f"movq:events:{plain['id']}")
        assert connection.xlen(f"movq:events:{watched['id']}") == 1


def test_jobs_are_listed_newest_first(client: httpx.Client, worker: StandIn) -> None:
    done = client.post("/generate", json={}).json()["id"]
    worker.hold()
    ids = [client.post("/v1/generations", json={}).json()["id"] for _ in range(3)]
    listed = client.get("/v1/jobs").json()["jobs"]
    assert [job["id"] for job in listed] == [*reversed(ids), done]
    assert [job["id"] for job in client.get("/v1/jobs?limit=2").json()["jobs"]] == [ids[2], ids[1]]
    assert [job["id"] for job in client.get("/v1/jobs?status=succeeded").json()["jobs"]] == [done]
    assert client.get("/v1/jobs?limit=0").status_code == 422
    worker.release()
