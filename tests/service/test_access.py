"""API keys, owners, the session cookie and rate limits."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from movq_core.blobs import BlobStore
from service.keys import owner_of_secret, parse_keys
from tests.service.conftest import Serve
from tests.service.pictures import encoded, gradient
from tests.service.standin import StandIn

SECRETS = {"ann": "a-secret", "bob": "b-secret"}
API_KEYS = ",".join(f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in SECRETS.items())
ANN = {"authorization": "Bearer a-secret"}
BOB = {"x-api-key": "b-secret"}


@pytest.fixture
def locked(serve: Serve) -> httpx.Client:
    return serve(api_keys=API_KEYS)


def test_keys_are_found_by_their_secrets() -> None:
    keys = parse_keys(API_KEYS)
    assert [owner_of_secret(secret, keys) for secret in ("a-secret", "b-secret", "c", "")] == [
        "ann",
        "bob",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ann", "the key 'ann' needs the SHA-256"),
        ("ann:1234", "64 hex digits"),
        (f"Ann:{'0' * 64}", "'Ann' cannot name a key"),
        (f"ann:{'0' * 64},ann:{'1' * 64}", "two keys are named ann"),
    ],
)
def test_keys_that_are_none(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_keys(text)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MOVQ_API_KEYS", "ann:plain-words", "MOVQ_API_KEYS is not valid: the key 'ann' needs the SHA-256"),
        ("MOVQ_RATE_LIMIT", "often", "MOVQ_RATE_LIMIT is not valid: 'often' is no rate"),
    ],
)
def test_wrong_settings_end_the_start(bundle: Path, variable: str, value: str, says: str) -> None:
    environment = {"MOVQ_MODELS": str(bundle), "PATH": "", variable: value}
    command = [sys.executable, "-m", "service"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert "plain-words" not in done.stderr


def test_without_a_key_only_the_open_places(locked: httpx.Client, worker: StandIn) -> None:
    for path in ("/", "/docs", "/openapi.json", "/livez", "/readyz", "/metrics", "/static/style.css"):
        assert locked.get(path).status_code == 200, path
    for method, path in (
        ("GET", "/v1/models"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/00"),
        ("DELETE", "/v1/jobs/00"),
        ("GET", "/v1/jobs/00/events"),
        ("POST", "/generate"),
        ("POST", "/v1/edits"),
        ("POST", "/v1/images/generations"),
    ):
        answer = locked.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["code"] == "unauthorized"
    assert locked.get("/v1/jobs", headers={"authorization": "Bearer c"}).status_code == 401


@pytest.mark.parametrize("headers", [ANN, BOB])
def test_either_header_will_do(locked: httpx.Client, worker: StandIn, headers: dict[str, str]) -> None:
    assert locked.post("/generate", json={}, headers=headers).status_code == 200


def test_jobs_and_blobs_are_seen_by_their_owner_alone(locked: httpx.Client, worker: StandIn) -> None:
    photo = {"image": encoded(gradient())}
    job = locked.post("/v1/reconstructions", files=photo, headers={**ANN, "prefer": "wait=10"}).json()
    places = [job["links"]["self"], job["links"]["events"], job["links"]["image"], job["images"][0]]
    assert "/ann/" in job["links"]["image"]
    for place in places:
        assert locked.get(place, headers=ANN).status_code == 200, place
        assert locked.get(place, headers=BOB).status_code == 404, place
        assert locked.get(place).status_code == 401, place
    assert locked.delete(job["links"]["self"], headers=BOB).status_code == 404
    assert "private" in locked.get(job["images"][0], headers=ANN).headers["cache-control"]
    listed = {name: locked.get("/v1/jobs", headers=key).json() for name, key in (("a", ANN), ("b", BOB))}
    assert [entry["id"] for entry in listed["a"]["jobs"]] == [job["id"]]
    assert listed["b"]["jobs"] == []


def test_where_there_are_no_keys_owned_blobs_are_nobodys(client: httpx.Client, blobs: BlobStore) -> None:
    key = blobs.put("images", b"x", "png", "ann")
    assert client.get(f"/v1/{key}").status_code == 404


def test_a_browser_keeps_the_key_in_a_cookie(locked: httpx.Client) -> None:
    assert locked.post("/v1/session", json={"key": "wrong"}).status_code == 401
    answer = locked.post("/v1/session", json={"key": "a-secret"})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert locked.get("/v1/models").status_code == 200  # by the cookie
    assert locked.delete("/v1/session").status_code == 204
    assert locked.get("/v1/models").status_code == 401


def test_without_keys_a_session_is_nothing(client: httpx.Client) -> None:
    answer = client.post("/v1/session", json={"key": "any"})
    assert answer.status_code == 204
    assert "set-cookie" not in answer.headers


def test_openapi_says_when_a_key_is_needed(client: httpx.Client, locked: httpx.Client) -> None:
    for service, has_empty in ((client, True), (locked, False)):
        document = service.get("/openapi.json").json()
        assert set(document["components"]["securitySchemes"]) == {"bearer", "header", "session"}
        assert ({} in document["paths"]["/generate"]["post"]["security"]) is has_empty
        assert "security" not in document["paths"]["/livez"]["get"]


def test_a_rate_is_counted_by_key_and_ends(serve: Serve) -> None:
    service = serve(api_keys=API_KEYS, rate_limit="2/2 seconds")
    for _ in range(2):
        assert service.post("/v1/generations", json={}, headers=ANN).status_code == 202
    refused = service.post("/v1/generations", json={}, headers=ANN)
    assert refused.status_code == 429
    assert refused.json()["code"] == "too_many_requests"
    wait_s = int(refused.headers["retry-after"])
    assert 1 <= wait_s <= 2
    assert service.post("/v1/generations", json={}, headers=BOB).status_code == 202
    assert service.get("/v1/jobs", headers=ANN).status_code == 200
    time.sleep(wait_s)
    assert service.post("/v1/generations", json={}, headers=ANN).status_code == 202
    assert 'movq_jobs_rejected_total{reason="too_many_requests"} 1.0' in service.get("/metrics").text


def test_without_keys_a_rate_is_counted_by_address(serve: Serve) -> None:
    service = serve(rate_limit="1/hour")
    assert service.post("/v1/generations", json={}).status_code == 202
    assert service.post("/generate", json={}).status_code == 429


def test_a_key_has_so_many_open_jobs(serve: Serve) -> None:
    service = serve(api_keys=API_KEYS, max_open_jobs=1)
    assert service.post("/v1/generations", json={}, headers=ANN).status_code == 202
    assert service.post("/v1/generations", json={}, headers=ANN).status_code == 429
    assert service.post("/v1/generations", json={}, headers=BOB).status_code == 202
