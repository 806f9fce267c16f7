"""POST /reconstruct, /encode and /decode: images in, images out, and what is refused at the door."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.pictures import animated, cut, encoded, gradient, opened, png_bomb
from tests.service.standin import StandIn, known_jobs

PHOTO = encoded(gradient(57, 33), "JPEG")


def test_multipart_to_json(client: httpx.Client, worker: StandIn) -> None:
    answer = client.post("/reconstruct", files={"image": ("photo.jpg", PHOTO)})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["kind"] == "reconstruct"
    assert job["fidelity"] == {
        "psnr_db": 27.31,
        "ssim": 0.871,
        "codes_bytes": 180,
        "bits_per_pixel": pytest.approx(0.7656, abs=1e-4),
    }
    assert (job["width"], job["height"]) == (57, 33)
    assert opened(client.get(job["images"][0]).content).size == (57, 33)
    upload = client.get(job["request"]["image"])
    assert upload.headers["content-type"] == "image/png"
    assert opened(upload.content).size == (57, 33)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/png", "application/octet-stream"])
def test_raw_body_to_image_whatever_it_claims_to_be(
    client: httpx.Client, worker: StandIn, content_type: str
) -> None:
    headers = {"content-type": content_type, "accept": "image/webp"}
    answer = client.post("/reconstruct", content=PHOTO, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert opened(answer.content).size == (57, 33)
    assert answer.headers["x-movq-psnr-db"] == "27.310"
    assert answer.headers["x-movq-ssim"] == "0.8710"
    assert answer.headers["x-movq-codes-bytes"] == "180"
    assert answer.headers["x-movq-bits-per-pixel"] == "0.7656"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("size", [(1, 1), (4000, 3000)])
def test_smallest_and_large(client: httpx.Client, worker: StandIn, size: tuple[int, int]) -> None:
    answer = client.post("/reconstruct", files={"image": encoded(gradient(*size), "JPEG")})
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == size


@pytest.mark.parametrize("path", ["/v1/reconstructions", "/v1/encodings"])
def test_whole_instead_of_tiles(client: httpx.Client, worker: StandIn, path: str) -> None:
    small, large = encoded(gradient(57, 33)), encoded(gradient(1200, 1000), "JPEG")
    answer = client.post(path, params={"tiling": "whole"}, files={"image": small})
    assert answer.status_code == 202
    assert answer.json()["request"]["tiling"] == "whole"
    answer = client.post(path, params={"tiling": "whole"}, files={"image": large})
    assert answer.status_code == 413
    assert "tiling=tiles takes 16,777,216" in answer.json()["detail"]
    assert client.post(path, params={"tiling": "half"}, files={"image": small}).status_code == 422


def test_v1_reconstructions(client: httpx.Client, worker: StandIn) -> None:
    answer = client.post(
        "/v1/reconstructions?format=jpeg", files={"image": PHOTO}, headers={"prefer": "wait=10"}
    )
    assert answer.status_code == 200
    assert client.get(answer.json()["images"][0]).headers["content-type"] == "image/jpeg"


def test_codes_go_out_and_come_back(client: httpx.Client, worker: StandIn) -> None:
    codes = client.post("/encode", files={"image": PHOTO})
    assert codes.status_code == 200
    document = codes.json()
    assert (document["height"], document["width"]) == (33, 57)
    assert len(document["codes"]) == 4
    image = client.post(
        "/decode",
        content=codes.content,
        headers={"content-type": "application/json", "accept": "image/png"},
    )
    assert image.status_code == 200
    assert opened(image.content).size == (57, 33)


def test_v1_encodings_link_the_codes(client: httpx.Client, worker: StandIn) -> None:
    job = client.post("/v1/encodings", files={"image": PHOTO}, headers={"prefer": "wait=10"}).json()
    codes = client.get(job["links"]["codes"])
    assert codes.headers["content-type"] == "application/json"
    answer = client.post("/v1/decodings", json=codes.json(), headers={"prefer": "wait=10"})
    assert answer.json()["status"] == "succeeded"


def document(**changes: object) -> dict[str, object]:
    codes = [[[0] * 2 for _ in range(3)] for _ in range(4)]
    return {"model": "emoji-64", "height": 20, "width": 16, "codes": codes} | changes


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"model": "other"}, 422, "no model 'other'; served are emoji-64"),
        ({"codes": [[[0] * 2] * 3] * 3}, 422, "3 channels; this model has 4"),
        ({"codes": [[[0] * 2] * 2] * 4}, 422, "3 x 2 codes"),
        ({"codes": [[[0] * 2, [0], [0] * 2]] * 4}, 422, "3 x 2 codes"),
        ({"codes": [[[512] * 2] * 3] * 4}, 422, "0 to 511"),
        ({"codes": [[[-1] * 2] * 3] * 4}, 422, "0 to 511"),
        ({"height": 8}, 422, "1 x 2 codes"),
        ({"height": 0}, 422, "height: input should be greater than or equal to 1"),
        ({"height": 10**6, "width": 10**6}, 413, "16,777,216"),
        ({"codes": "none"}, 422, "valid array"),
        ({"extra": 1}, 422, "extra is no field here; allowed are model, height, width, codes"),
    ],
)
def test_codes_that_are_no_picture(
    client: httpx.Client, redis_url: str, changes: dict[str, object], status: int, says: str
) -> None:
    answer = client.post("/decode", json=document(**changes))
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert known_jobs(redis_url) == 0


def test_a_document_of_nothing_but_mistakes_costs_one(client: httpx.Client) -> None:
    started = time.monotonic()
    answer = client.post("/decode", json=document(codes=[[["x"] * 1000] * 1000]))
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 1
    assert time.monotonic() - started < 5


def refused(answer: httpx.Response, status: int, says: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"], problem
    assert problem["detail"].endswith(".")


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 422, "empty"),
        (b"just some text", 422, "not an image that we know. Send one still PNG, JPEG or WebP image."),
        (cut(encoded(gradient(300, 300))), 422, "cut short"),
        (png_bomb(60_000, 60_000), 413, "16,777,216"),
        (animated("WEBP"), 422, "animated"),
        (animated("PNG"), 422, "animated"),
        (encoded(gradient(), "GIF"), 422, "PNG, JPEG or WebP"),
    ],
)
def test_bad_images(client: httpx.Client, redis_url: str, data: bytes, status: int, says: str) -> None:
    for path in ("/reconstruct", "/encode", "/v1/reconstructions", "/v1/encodings"):
        refused(client.post(path, files={"image": ("x.png", data, "image/png")}), status, says)
        refused(client.post(path, content=data, headers={"content-type": "image/png"}), status, says)
    assert known_jobs(redis_url) == 0


@pytest.mark.parametrize("content_type", ["text/plain", "image/gif", "application/json", None])
def test_wrong_content_types(client: httpx.Client, redis_url: str, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    refused(client.post("/reconstruct", content=PHOTO, headers=headers), 415, "multipart/form-data")
    assert known_jobs(redis_url) == 0


def test_a_form_without_the_field(client: httpx.Client) -> None:
    refused(client.post("/reconstruct", files={"picture": PHOTO}), 422, "no file field 'image'")
    refused(client.post("/reconstruct", data={"image": "x"}, files={"a": b"b"}), 422, "must be a file")


def test_a_form_that_is_none(client: httpx.Client) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/reconstruct", content=b"--y\r\nnonsense", headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def megabytes(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(2**20)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=x"])
def test_a_hundred_megabytes_are_not_read(
    client: httpx.Client, redis_url: str, declared: bool, content_type: str
) -> None:
    headers = {"content-type": content_type}
    if declared:
        headers["content-length"] = str(100 * 2**20)
    head = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\n'

    def body() -> Iterator[bytes]:
        if content_type.startswith("multipart") and not declared:
            yield head
        yield from megabytes(100)

    refused(client.post("/reconstruct", content=body(), headers=headers), 413, "at most 16.1 MiB")
    assert known_jobs(redis_url) == 0


def test_413_comes_before_the_body_does(base_url: str) -> None:
    """A client that announces 100 MB and sends none of it has its answer at once."""
    place = urlsplit(base_url)
    started = time.monotonic()
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        lines = (
            "POST /reconstruct HTTP/1.1",
            "host: x",
            "content-type: image/png",
            "content-length: 104857600",
        )
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - started < 1


def test_just_over_the_upload_limit(client: httpx.Client) -> None:
    data = bytes(16 * 2**20 + 1)
    refused(client.post("/reconstruct", files={"image": data}), 413, "at most 16,777,216 are taken")


def test_jobs_beside_bad_input_finish(client: httpx.Client, worker: StandIn) -> None:
    job = client.post("/v1/generations", json={"num_images": 2}).json()
    refused(client.post("/reconstruct", files={"image": b"bad"}), 422, "not an image")
    answer = client.post("/generate", json={})
    assert answer.status_code == 200
    assert client.get(job["links"]["self"]).json()["status"] == "succeeded"
    assert [request.kind for request in worker.seen] == ["generate", "generate"]
