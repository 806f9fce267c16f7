"""Two keys, every route: nothing of one owner's is another's to see, to stop or to guess."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.service.conftest import Serve
from tests.service.pictures import encoded, gradient
from tests.service.standin import StandIn
from tests.service.test_access import ANN, API_KEYS, BOB

OPEN = {"/livez", "/readyz", "/metrics", "/v1/session"}
BODIES = {"json": {}}


@pytest.fixture
def locked(serve: Serve) -> httpx.Client:
    return serve(api_keys=API_KEYS)


def operations(service: httpx.Client) -> Iterator[tuple[str, str]]:
    """Method and path of every operation that the service says it has."""
    for path, methods in service.get("/openapi.json").json()["paths"].items():
        yield from ((method.upper(), path) for method in methods)


def test_no_route_is_open_by_mistake(locked: httpx.Client, worker: StandIn) -> None:
    asked = 0
    for method, path in operations(locked):
        if path in OPEN:
            continue
        place = re.sub(r"\{name[^}]*\}", "0" * 64 + ".png", re.sub(r"\{(job_id|model)[^}]*\}", "00", path))
        place = re.sub(r"\{[^}]*\}", "0", place)
        assert locked.request(method, place, json={}).status_code == 401, (method, path)
        assert locked.request(method, place, json={}, headers={"x-api-key": "no"}).status_code == 401
        asked += 1
    assert asked > 20


def test_every_place_of_ann_is_nothing_to_bob(locked: httpx.Client, worker: StandIn) -> None:
    """Each path with a parameter, filled with what is Ann's: it is told as if there were nothing."""
    job = locked.post(
        "/v1/reconstructions", files={"image": encoded(gradient())}, headers={**ANN, "prefer": "wait=10"}
    ).json()
    names = {
        folder: place.partition(f"/v1/{folder}/")[2]
        for folder in ("images", "uploads", "codes")
        for place in [*job["images"], *job["links"].values()]
        if f"/v1/{folder}/" in place
    }
    assert len(names) == 3
    seen = 0
    for method, path in operations(locked):
        folder = path.split("/")[2] if path.startswith("/v1/") else ""
        if "{" not in path or (folder != "jobs" and folder not in names):
            continue
        name = job["id"] if folder == "jobs" else names[folder]
        place = re.sub(r"\{[^}]*\}", name, path)
        theirs, nothing = (
            locked.request(method, place.replace(name, tried), headers=BOB)
            for tried in (
                name,
                name[:-8] + "00000000" if folder == "jobs" else re.sub("[0-9a-f]{64}", "0" * 64, name),
            )
        )
        assert theirs.status_code == nothing.status_code == 404, (method, path)
        assert {**theirs.json(), "detail": ""} == {**nothing.json(), "detail": ""}
        seen += 1
    assert seen >= 6
    assert locked.get(f"/v1/jobs/{job['id']}", headers=ANN).json()["status"] == "succeeded"


def test_an_idempotency_key_is_its_owners(locked: httpx.Client, worker: StandIn) -> None:
    jobs = [
        locked.post("/v1/generations", json={}, headers={**key, "idempotency-key": "same"}).json()["id"]
        for key in (ANN, BOB, ANN, BOB)
    ]
    assert jobs[:2] == jobs[2:]
    assert jobs[0] != jobs[1]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),  # no browser
        ({"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"}, 202),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://127.0.0.1:3000"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_a_neighbours_page_cannot_act_by_the_cookie(
    locked: httpx.Client, worker: StandIn, headers: dict[str, str], status: int
) -> None:
    """SameSite=Strict lets other ports and names of the same domain through."""
    locked.post("/v1/session", json={"key": "a-secret"})
    assert locked.post("/v1/generations", json={}, headers=headers).status_code == status
    assert locked.post("/v1/generations", json={}, headers={**headers, **ANN}).status_code == 202
    assert locked.get("/v1/jobs", headers=headers).status_code == 200


def test_our_own_page_can(locked: httpx.Client, worker: StandIn) -> None:
    locked.post("/v1/session", json={"key": "a-secret"})
    origin = str(locked.base_url).rstrip("/")
    assert locked.post("/v1/generations", json={}, headers={"origin": origin}).status_code == 202
