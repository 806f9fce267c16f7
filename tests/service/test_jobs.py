"""Jobs over HTTP: reading, cancelling, failing, waiting, and a full queue."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from redis import Redis
from rq import Queue
from rq.job import Job as RQJob

from movq_core.errors import QueueFull
from movq_core.protocol import GenerateRequest, Priority, queue_name
from service.failures import failure_sentence
from service.job import Job, Status, Submission, Submitted
from service.jobs import JobStore
from service.settings import Settings
from tests.service.standin import StandIn

MODEL = "emoji-64"
NORMAL = queue_name(MODEL, Priority.NORMAL)


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def start(client: httpx.Client, **body: object) -> str:
    """Path of a new generation's job."""
    answer = client.post("/v1/generations", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


def status(client: httpx.Client, path: str) -> str:
    return str(client.get(path).json()["status"])


def job_ids(redis_url: str) -> list[str]:
    """Ids on the queue."""
    with Redis.from_url(redis_url) as connection:
        return Queue(NORMAL, connection=connection, serializer="json").get_job_ids()


def test_the_envelope_of_a_queued_job(client: httpx.Client) -> None:
    first, second = start(client), start(client, class_id=2)
    job = client.get(second).json()
    assert set(job) == {
        "id", "kind", "status", "position", "created_at", "started_at", "finished_at", "request", "seeds",
        "images", "height", "width", "fidelity", "error", "timings", "links", "model", "priority", "progress",
        "estimated_wait_s", "deadline_at",
    }  # fmt: skip
    assert (job["status"], job["position"]) == ("queued", 2)
    assert job["started_at"] is None
    assert client.get(first).json()["position"] == 1
    assert client.get(first).headers["cache-control"] == "no-store"


def test_what_rq_is_told(client: httpx.Client, redis_url: str) -> None:
    job_id = start(client, num_images=3, class_id=1).rpartition("/")[2]
    with Redis.from_url(redis_url) as connection:
        record = RQJob.fetch(job_id, connection=connection, serializer="json")
        assert record.func_name == "movq.generate"
        assert record.origin == NORMAL
        assert record.kwargs["request"]["class_id"] == 1
        assert (record.timeout, record.result_ttl, record.failure_ttl) == (300, 86_400, 86_400)
        assert (record.ttl, record.retries_left) == (None, 2)
        assert connection.hget(record.key, "images") == b"3"


@pytest.mark.parametrize("job_id", ["00000000-0000-4000-8000-000000000000", "abc"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_such_job(client: httpx.Client, method: str, job_id: str) -> None:
    answer = client.request(method, f"/v1/jobs/{job_id}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "job_not_found"
    assert client.request(method, "/v1/jobs/no%20id").status_code == 422


def test_somebody_elses_job_is_not_ours(client: httpx.Client, redis_url: str) -> None:
    with Redis.from_url(redis_url) as connection:
        record = Queue(NORMAL, connection=connection, serializer="json").enqueue("other.work", 1)
    assert client.get(f"/v1/jobs/{record.id}").status_code == 404


def test_cancel_a_queued_job(client: httpx.Client, redis_url: str) -> None:
    paths = [start(client) for _ in range(3)]
    answer = client.delete(paths[1])
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["finished_at"] is not None
    assert [status(client, path) for path in paths] == ["queued", "cancelled", "queued"]
    assert client.get(paths[2]).json()["position"] == 2
    assert client.delete(paths[1]).json()["status"] == "cancelled"  # idempotent
    with Redis.from_url(redis_url) as connection:
        assert 0 < connection.ttl(f"rq:job:{paths[1].rpartition('/')[2]}") <= 86_400
        assert connection.llen(f"rq:queue:{NORMAL}") == 2


def test_cancel_a_running_job_stops_it_alone(client: httpx.Client, worker: StandIn) -> None:
    worker.hold()
    running, queued = start(client), start(client)
    eventually(lambda: status(client, running) == "running")
    answer = client.delete(running)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert client.delete(running).json()["status"] == "cancelled"
    worker.release()
    eventually(lambda: status(client, queued) == "succeeded")


def test_a_worker_that_does_not_stop_at_once_is_202(
    client: httpx.Client, worker: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.hold()
    path = start(client)
    eventually(lambda: status(client, path) == "running")
    monkeypatch.setattr("service.jobs.send_stop_execution_command", lambda *_: None)
    answer = client.delete(path)
    assert (answer.status_code, answer.json()["status"]) == (202, "running")


def test_cancel_after_the_end_changes_nothing(client: httpx.Client, worker: StandIn) -> None:
    job = client.post("/generate", json={}).json()
    answer = client.delete(job["links"]["self"])
    assert answer.status_code == 200
    assert answer.json() == client.get(job["links"]["self"]).json()
    assert answer.json()["status"] == "succeeded"


def test_a_job_cancelled_while_somebody_waits(client: httpx.Client, redis_url: str) -> None:
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(client.post("/generate", json={})))
    waiting.start()
    with httpx.Client(base_url=client.base_url) as other:
        eventually(lambda: len(job_ids(redis_url)) == 1)
        assert other.delete(f"/v1/jobs/{job_ids(redis_url)[0]}").json()["status"] == "cancelled"
    waiting.join()
    assert answers[0].status_code == 409
    assert answers[0].json()["code"] == "job_cancelled"


def test_a_client_that_goes_away_takes_its_job_along(client: httpx.Client, redis_url: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/generate", json={}, timeout=1.0)
    assert len(job_ids(redis_url)) == 1
    eventually(lambda: job_ids(redis_url) == [])
    eventually(lambda: 'code="499",method="POST",route="/generate"' in client.get("/metrics").text)


def test_a_failed_job_says_why_and_no_more(client: httpx.Client, worker: StandIn) -> None:
    worker.fail_with = (
        'Traceback (most recent call last):\n  File "/srv/secret/engine.py", line 3, in step\n    run()\n'
        "movq_core.errors.InvalidRequest: the codes do not fit this model\n"
    )
    answer = client.post("/generate", json={}, headers={"accept": "image/png"})
    assert answer.status_code == 500
    problem = answer.json()
    assert problem["code"] == "job_failed"
    assert problem["detail"].startswith("the codes do not fit this model (job ")
    assert "secret" not in answer.text
    job_id = problem["detail"].rpartition("(job ")[2].rstrip(")")
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["error"]) == ("failed", "the codes do not fit this model")
    envelope = client.post("/v1/generations", json={}, headers={"prefer": "wait=10"})
    assert (envelope.status_code, envelope.json()["status"]) == (200, "failed")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "The job failed in the worker, which gave no reason."),
        ("  \n", "The job failed in the worker, which gave no reason."),
        ("the worker was lost, and no retry is left", "the worker was lost, and no retry is left"),
        ("Traceback\n  x\nRuntimeError: no memory\n", "RuntimeError: no memory"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "OutOfMemoryError: CUDA out of memory"),
        ("movq_core.errors.BlobNotFound: no blob a: b", "no blob a: b"),
        (
            "Moved to FailedJobRegistry, due to AbandonedJobError, at 2026",
            "The worker that ran this job went away, and the job had no tries left.",
        ),
    ],
)
def test_failure_sentences(text: str | None, says: str) -> None:
    assert failure_sentence(text) == says


def test_a_full_queue_counts_images(client: httpx.Client) -> None:
    for _ in range(4):
        start(client, num_images=4)  # 16 is the limit here
    answer = client.post("/generate", json={})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "30"  # nothing was finished: there is no rate to measure
    problem = answer.json()
    assert problem["code"] == "queue_full"
    assert "16 images are waiting or running, and at most 16 may" in problem["detail"]
    metrics = client.get("/metrics").text
    assert 'movq_jobs_rejected_total{reason="queue_full"} 1.0' in metrics
    assert 'movq_queue_depth{model="emoji-64",priority="normal"} 16.0' in metrics


def test_running_images_count_and_the_rate_is_measured(client: httpx.Client, worker: StandIn) -> None:
    for _ in range(10):
        assert client.post("/generate", json={"num_images": 4}).status_code == 200
    worker.hold()
    first = start(client, num_images=4)
    eventually(lambda: status(client, first) == "running")
    for _ in range(3):
        start(client, num_images=4)
    answer = client.post("/generate", json={"num_images": 1})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"  # 40 images within a second or so
    worker.release()
    eventually(lambda: status(client, first) == "succeeded")


def test_the_bound_holds_under_a_rush(client: httpx.Client) -> None:
    codes: list[int] = []

    def rush() -> None:
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            codes.extend(own.post("/v1/generations", json={"num_images": 2}).status_code for _ in range(4))

    threads = [threading.Thread(target=rush) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [202] * 8 + [429] * 24


def test_the_bound_holds_over_several_services(redis_url: str) -> None:
    async def rush() -> list[Submitted | BaseException]:
        stores = [JobStore(Settings(redis_url=redis_url, max_queue_images=16)) for _ in range(2)]
        request = GenerateRequest(num_images=2)
        answers = await asyncio.gather(
            *(store.submit(request, Submission(MODEL)) for store in stores * 16), return_exceptions=True
        )
        for store in stores:
            await store.close()
        return answers

    answers = asyncio.run(rush())
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 24
    positions = sorted(answer.job.position or 0 for answer in answers if isinstance(answer, Submitted))
    assert positions == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_crowd_enters_and_each_has_its_answer_at_once(redis_url: str, worker: StandIn) -> None:
    """More of them than redis-py's pool has connections: a hundred."""

    async def ask(store: JobStore) -> Job:
        submitted = await store.submit(GenerateRequest(), Submission(MODEL))
        return await store.wait(submitted.job, 30.0)

    async def crowd() -> list[Job]:
        store = JobStore(Settings(redis_url=redis_url, max_queue_images=200))
        worker.hold()
        asked = [asyncio.create_task(ask(store)) for _ in range(200)]
        while len(job_ids(redis_url)) < 199:
            await asyncio.sleep(0.01)
        worker.release()
        answers = await asyncio.gather(*asked)
        await store.close()
        return answers

    assert {job.status for job in asyncio.run(crowd())} == {Status.SUCCEEDED}


def test_reading_reaps_nothing(client: httpx.Client, worker: StandIn, redis_url: str) -> None:
    """An expired lease is for the workers to judge: whoever merely reads must not take it away."""
    worker.hold()
    path = start(client)
    eventually(lambda: status(client, path) == "running")
    with Redis.from_url(redis_url) as connection:
        wip = f"rq:wip:{NORMAL}"
        (entry,) = connection.zrange(wip, 0, -1)
        connection.zadd(wip, {entry: 1})
        for url in ("/metrics", "/readyz", path):
            assert client.get(url).status_code == 200
        start(client)
        assert connection.zrange(wip, 0, -1) == [entry]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", "inf"),
        ("deadline_at", "soon"),
        ("deadline_at", "inf"),
        ("progress", "half"),
        ("webhook_url", b"\xff"),
        ("images", "1e9"),
        ("status", "odd"),
        ("created_at", "yesterday"),
        ("data", b"[" * 100_000),
        ("data", b"\x80\x04"),
    ],
)
def test_a_hostile_record_spoils_no_list_and_closes_no_door(
    client: httpx.Client, redis_url: str, field: str, value: str | bytes
) -> None:
    hostile, healthy = (client.post("/v1/generations", json={}).json()["id"] for _ in range(2))
    with Redis.from_url(redis_url) as redis:
        redis.hset(f"rq:job:{hostile}", field, value)
    listed = client.get("/v1/jobs")
    assert listed.status_code == 200
    assert healthy in {job["id"] for job in listed.json()["jobs"]}
    assert client.get(f"/v1/jobs/{hostile}").status_code in (200, 404)
    assert client.post("/v1/generations", json={}).status_code == 202
