"""GET /v1/jobs/{id}/events: server-sent events as a browser hears them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from redis import Redis

from tests.conftest import free_port
from tests.service.pictures import opened
from tests.service.standin import StandIn


def heard(client: httpx.Client, job: dict[str, Any], after: str = "") -> Iterator[ServerSentEvent]:
    headers = {"last-event-id": after} if after else {}
    with connect_sse(client, "GET", job["links"]["events"], headers=headers) as source:
        assert source.response.headers["x-accel-buffering"] == "no"
        assert source.response.headers["cache-control"] == "no-store"
        yield from source.iter_sse()


def watched(client: httpx.Client, **body: Any) -> dict[str, Any]:
    job: dict[str, Any] = client.post("/v1/generations?watched=true", json=body).json()
    return job


def test_a_job_from_its_first_step_to_its_images(client: httpx.Client, worker: StandIn) -> None:
    worker.steps(3)
    events = list(heard(client, watched(client, num_images=2, seed=5)))
    kinds = [event.event for event in events]
    assert kinds[:2] == ["queued", "started"]
    assert kinds.count("step") == 3
    assert kinds[-3:] == ["image", "image", "done"]
    by_kind = {event.event: json.loads(event.data) for event in events}
    assert set(by_kind["queued"]) >= {"position", "estimated_wait_s"}
    assert set(by_kind["step"]) == {"taken", "steps", "known"}
    assert set(by_kind["preview"]) == {"index", "step", "known", "url"}
    assert opened(client.get(by_kind["preview"]["url"]).content).format == "WEBP"
    job = by_kind["done"]
    assert job == client.get(job["links"]["self"]).json()
    assert by_kind["image"] == {"index": 1, "seed": job["seeds"][1], "url": job["images"][1]}


def test_a_listener_cut_in_the_middle_misses_nothing(client: httpx.Client, worker: StandIn) -> None:
    worker.steps(6)
    job = watched(client)
    every = list(heard(client, job))
    cuts = [cut for cut, event in enumerate(every) if event.event not in ("image", "done")]
    assert len(cuts) > 12
    for cut in cuts:
        rest = list(heard(client, job, after=every[cut].id))
        assert [(event.event, event.data) for event in rest] == [
            (event.event, event.data) for event in every[cut + 1 :]
        ]


def test_an_image_has_no_id_of_its_own(client: httpx.Client, worker: StandIn) -> None:
    """Who is cut between the images and `done` has all of them again."""
    image, done = list(heard(client, client.post("/generate", json={}).json()))
    assert (image.event, image.id, done.event) == ("image", "", "done")


def test_who_has_seen_the_end_is_told_so(client: httpx.Client, worker: StandIn) -> None:
    job = client.post("/generate", json={}).json()
    *_, done = heard(client, job)
    assert done.event == "done"
    answer = client.get(job["links"]["events"], headers={"last-event-id": done.id})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_failed_and_a_cancelled_job_end_too(client: httpx.Client, worker: StandIn) -> None:
    worker.fail_with = "no memory"
    failed = json.loads(list(heard(client, watched(client)))[-1].data)
    assert (failed["status"], failed["error"]) == ("failed", "no memory")
    worker.hold()
    job = watched(client)
    threading.Timer(0.3, lambda: httpx.delete(f"{client.base_url}{job['links']['self']}")).start()
    last = list(heard(client, job))[-1]
    assert (last.event, json.loads(last.data)["status"]) == ("done", "cancelled")
    worker.release()


def test_no_such_job(client: httpx.Client) -> None:
    answer = client.get("/v1/jobs/00000000-0000-4000-8000-000000000000/events")
    assert answer.status_code == 404
    assert answer.json()["code"] == "job_not_found"


def test_who_leaves_watches_no_more(client: httpx.Client, redis_url: str) -> None:
    job = client.post("/v1/generations", json={}).json()
    key = f"movq:watchers:{job['id']}"
    with Redis.from_url(redis_url) as connection:
        events = heard(client, job)
        assert next(events).event == "queued"
        assert connection.zcard(key) == 1
        assert "movq_event_listeners 1.0" in client.get("/metrics").text
        events.close()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 5
        while connection.zcard(key):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_server_that_stops_ends_its_streams(redis_url: str, tmp_path: Path, bundle: Path) -> None:
    port = free_port()
    environment = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_BLOBS_URL": str(tmp_path / "blobs"),
        "MOVQ_MODELS": str(bundle),
        "MOVQ_PORT": str(port),
        "PATH": "",
    }
    command = [sys.executable, "-m", "service"]
    with (
        subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        until_it_listens(str(client.base_url))
        events = heard(client, client.post("/v1/generations", json={}).json())
        assert next(events).event == "queued"
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        with pytest.raises((StopIteration, httpx.RemoteProtocolError)):
            next(events)
        assert process.wait(timeout=10) in (0, -15)
        assert time.monotonic() - started < 4  # uvicorn itself would wait for five


def until_it_listens(url: str) -> None:
    place, deadline = urlsplit(url), time.monotonic() + 30
    while True:
        try:
            socket.create_connection((place.hostname or "", place.port or 0)).close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return
