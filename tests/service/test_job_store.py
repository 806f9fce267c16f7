"""JobStore against a real Redis: what a submission may say, and who may see what became of it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
import uvloop
from redis import Redis
from rq.utils import utcformat

from movq_core.blobs import BlobStore
from movq_core.errors import (
    IdempotencyConflict,
    JobNotFound,
    MovqError,
    QueueFull,
    QueueUnavailable,
    TooManyRequests,
)
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest, JobOutput, Priority, Timings
from service.job import Idempotency, Job, Status, Submission, Submitted
from service.jobs import JobStore
from service.settings import Settings
from tests.service.standin import StandIn
from worker.claim import Claim, Ending
from worker.rq_worker import RQWorker, connect

MODEL = "emoji-64"
OUTPUT = JobOutput(height=8, width=8, timings=Timings(waited_s=0, ran_s=0, encoded_s=0))
SUCCEEDED = Ending("succeeded", output=OUTPUT)
T = TypeVar("T")


def ask(url: str, question: Callable[[JobStore], Awaitable[T]], **settings: int) -> T:
    """The answer of a store that is there for this question alone."""

    async def asked() -> T:
        store = JobStore(Settings(redis_url=url, **settings))
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def submit(
    url: str,
    owner: str | None = None,
    images: int = 1,
    model: str = MODEL,
    steps: int = 12,
    **said: object,
) -> Job:
    request = GenerateRequest(owner=owner, num_images=images, sampling=SamplingParams(steps=steps))
    submission = Submission(model, **said)
    return ask(url, lambda store: store.submit(request, submission)).job


def get(url: str, job: Job, owner: str | None = None) -> Job:
    return ask(url, lambda store: store.get(job.id, owner))


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as connection:
        yield connection


@pytest.fixture
def worker(redis_url: str) -> Iterator[RQWorker]:
    worker = connect(redis_url, MODEL, lease_s=15)
    worker.open()
    yield worker
    worker.close()


def take(worker: RQWorker) -> Claim:
    (claim,) = worker.take(1)
    return claim


def test_a_job_stands_in_the_queue_of_its_model_and_priority(redis_url: str, redis: Redis) -> None:
    urgent = submit(redis_url, priority=Priority.HIGH)
    other = submit(redis_url, model="flowers-64.v2", priority=Priority.LOW)
    assert redis.lrange("rq:queue:movq.emoji-64.high", 0, -1) == [urgent.id.encode()]
    found = get(redis_url, other)
    assert (found.model, found.priority, found.position) == ("flowers-64.v2", Priority.LOW, 1)
    assert found == other


def test_the_bound_holds_for_a_model_over_its_queues(redis_url: str, worker: RQWorker) -> None:
    submission = {"max_queue_images": 8}

    def enter(priority: Priority, model: str = MODEL) -> Submitted:
        request = GenerateRequest(num_images=4)
        return ask(redis_url, lambda store: store.submit(request, Submission(model, priority)), **submission)

    enter(Priority.LOW)
    enter(Priority.HIGH)
    assert len(worker.take(1)) == 1
    with pytest.raises(QueueFull, match="8 images are waiting or running"):
        enter(Priority.NORMAL)
    enter(Priority.NORMAL, "another")
    load = ask(redis_url, lambda store: store.load(MODEL))
    assert (load.queued_images, load.running_images, load.queued_jobs) == (4, 4, 1)
    assert all(0 <= job.age_s < 10 for job in load.in_flight), "by the server's clock"


# -- idempotency ----------------------------------------------------------------------------------


def keyed(key: str = "k", fingerprint: str = "f") -> Submission:
    return Submission(MODEL, idempotency=Idempotency(key, fingerprint))


def test_twenty_clients_with_one_key_make_one_job(redis_url: str, redis: Redis) -> None:
    """Over two services, at once."""

    async def rush() -> list[Submitted]:
        stores = [JobStore(Settings(redis_url=redis_url)) for _ in range(2)]
        answers = await asyncio.gather(*(store.submit(GenerateRequest(), keyed()) for store in stores * 10))
        for store in stores:
            await store.close()
        return answers

    answers = asyncio.run(rush())
    assert len({answer.job.id for answer in answers}) == 1
    assert sorted(answer.is_new for answer in answers) == [False] * 19 + [True]
    assert redis.llen("rq:queue:movq.emoji-64.normal") == 1


def test_one_key_with_two_requests_is_a_conflict(redis_url: str, redis: Redis) -> None:
    first = ask(redis_url, lambda store: store.submit(GenerateRequest(), keyed()))
    with pytest.raises(IdempotencyConflict):
        ask(redis_url, lambda store: store.submit(GenerateRequest(), keyed(fingerprint="other")))
    foreign = GenerateRequest(owner="anna")
    assert ask(redis_url, lambda store: store.submit(foreign, keyed(fingerprint="other"))).is_new, (
        "a key is its owner's"
    )
    redis.delete(f"rq:job:{first.job.id}")
    assert ask(redis_url, lambda store: store.submit(GenerateRequest(), keyed(fingerprint="other"))).is_new, (
        "a job that has expired is forgotten"
    )


def test_a_known_key_is_answered_though_the_queue_is_full(redis_url: str) -> None:
    async def twice(store: JobStore) -> tuple[Submitted, Submitted]:
        request = GenerateRequest(num_images=4)
        return await store.submit(request, keyed()), await store.submit(request, keyed())

    first, second = ask(redis_url, twice, max_queue_images=4)
    assert (first.is_new, second.is_new, first.job.id) == (True, False, second.job.id)


# -- deadlines ------------------------------------------------------------------------------------


def test_a_deadline_is_the_servers_time(redis_url: str, redis: Redis, worker: RQWorker) -> None:
    job = submit(redis_url, deadline_s=30.0)
    assert job.deadline_at is not None
    assert 29 < (job.deadline_at - datetime.now(UTC)).total_seconds() <= 30
    assert get(redis_url, job).deadline_at == job.deadline_at
    claim = take(worker)
    assert claim.left_s is not None
    assert 29 < claim.left_s <= 30
    assert claim.limit_s == claim.left_s
    assert not claim.is_expired


# -- owners ---------------------------------------------------------------------------------------


def test_anothers_job_is_not_found(redis_url: str) -> None:
    job = submit(redis_url, owner="anna")
    assert get(redis_url, job, "anna").owner == "anna"
    for owner in ("ben", "ann"):
        with pytest.raises(JobNotFound):
            get(redis_url, job, owner)
        with pytest.raises(JobNotFound):
            ask(redis_url, lambda store, owner=owner: store.cancel(job.id, owner))
    assert get(redis_url, job).status is Status.QUEUED, "where there are no keys, nothing is hidden"
    assert ask(redis_url, lambda store: store.cancel(job.id, "anna")).status is Status.CANCELLED


def test_jobs_are_listed_newest_first_each_to_its_owner(
    redis_url: str, redis: Redis, worker: RQWorker
) -> None:
    jobs = [submit(redis_url, owner="anna") for _ in range(5)]
    submit(redis_url, owner="ben")
    worker.end([(take(worker), SUCCEEDED)])
    take(worker)
    redis.delete(f"rq:job:{jobs[3].id}")

    def listed(limit: int = 10, status: Status | None = None) -> list[str]:
        return [job.id for job in ask(redis_url, lambda store: store.list("anna", limit, status))]

    ids = [job.id for job in jobs]
    assert listed() == [ids[4], ids[2], ids[1], ids[0]]
    assert listed(limit=2) == [ids[4], ids[2]]
    assert listed(status=Status.SUCCEEDED) == [ids[0]]
    assert listed(status=Status.RUNNING) == [ids[1]]
    assert listed(status=Status.QUEUED, limit=1) == [ids[4]]
    assert ask(redis_url, lambda store: store.list(None, 10)) == ()


def test_an_owner_has_so_many_jobs_open_and_no_more(redis_url: str, worker: RQWorker) -> None:
    first, second = (submit(redis_url, owner="anna", max_open=2) for _ in range(2))
    with pytest.raises(TooManyRequests, match="2 of your jobs are queued or running, and at most 2 may be"):
        submit(redis_url, owner="anna", max_open=2)
    submit(redis_url, owner="ben", max_open=2)
    worker.end([(take(worker), SUCCEEDED)])
    submit(redis_url, owner="anna", max_open=2)
    with pytest.raises(TooManyRequests):
        submit(redis_url, owner="anna", max_open=2)
    assert get(redis_url, first).status is Status.SUCCEEDED
    ask(redis_url, lambda store: store.cancel(second.id))
    submit(redis_url, owner="anna", max_open=2)


def test_the_limit_holds_under_a_rush(redis_url: str) -> None:
    entered: list[Job] = []

    def rush() -> None:
        with suppress(MovqError):
            entered.append(submit(redis_url, owner="anna", max_open=3))

    threads = [threading.Thread(target=rush) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) == 3


# -- ends -----------------------------------------------------------------------------------------


def test_an_ended_job_with_a_webhook_is_handed_over(redis_url: str, redis: Redis, worker: RQWorker) -> None:
    """However it ends: and only when it has ended."""
    hooked = {"webhook_url": "https://example.org/hook"}
    submit(redis_url)
    succeeds, fails, is_lost, is_cancelled = (submit(redis_url, **hooked) for _ in range(4))
    assert get(redis_url, succeeds).webhook_url == "https://example.org/hook"
    worker.end([(take(worker), SUCCEEDED)])
    assert redis.lrange("movq:ended", 0, -1) == []
    worker.end([(take(worker), SUCCEEDED)])
    worker.end([(take(worker), Ending("failed", message="again", retry=True))])
    assert redis.lrange("movq:ended", 0, -1) == [succeeds.id.encode()]
    lost = take(worker)
    assert lost.job_id == is_lost.id
    redis.hset(f"rq:job:{is_lost.id}", "retries_left", 0)
    redis.zadd(f"rq:wip:{lost.queue}", {lost.member: 1})
    worker.reap()
    ask(redis_url, lambda store: store.cancel(is_cancelled.id))
    worker.end([(take(worker), Ending("failed", message="no"))])
    ended = [job.id.encode() for job in (succeeds, is_lost, is_cancelled, fails)]
    assert redis.lrange("movq:ended", 0, -1) == ended[::-1]


def test_progress_and_how_long_a_job_will_wait(
    redis_url: str, blobs: BlobStore, manifest: Manifest, redis: Redis
) -> None:
    assert submit(redis_url).estimated_wait_s is None, "nothing was finished: there is no rate"
    with StandIn(redis_url, blobs, manifest) as standin:
        jobs = [submit(redis_url) for _ in range(20)]
        done = ask(redis_url, lambda store: store.wait(jobs[-1], 20))
        assert (done.status, done.progress, done.estimated_wait_s) == (Status.SUCCEEDED, 1.0, None)
        standin.hold()
        submit(redis_url)
        while redis.llen("rq:queue:movq.emoji-64.normal"):
            threading.Event().wait(0.01)
        first, second = submit(redis_url, images=3), submit(redis_url)
        assert first.estimated_wait_s == 0.0
        rate = ask(redis_url, lambda store: store.load(MODEL)).images_per_s
        assert second.estimated_wait_s == pytest.approx(2 / rate, rel=0.5), "two images a job, in the mean"
        found = get(redis_url, second)
        assert (found.position, found.progress) == (2, None)
        assert found.estimated_wait_s == pytest.approx(2 / rate, rel=0.5)
        standin.release()


def test_a_stop_stands_in_the_record_for_a_worker_who_did_not_hear_it(
    redis_url: str, worker: RQWorker, redis: Redis
) -> None:
    worker.unsubscribe()
    job = submit(redis_url)
    claim = take(worker)
    assert not worker.renew({claim: None})[0].stop
    ask(redis_url, lambda store: store.cancel(job.id))
    assert worker.renew({claim: None})[0].stop
    worker.end([(claim, Ending("stopped"))])
    assert get(redis_url, job).status is Status.CANCELLED
    worker.subscribe()


def test_a_connection_that_ends_while_it_is_made_is_an_outage() -> None:
    """uvloop raises a RuntimeError of its own then, which came out as an error of ours."""

    def hang_up(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()

    async def ask_often(port: int) -> None:
        store = JobStore(Settings(redis_url=f"redis://127.0.0.1:{port}/0"))
        for _ in range(20):
            with pytest.raises(QueueUnavailable):
                await store.get("0")
        await store.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        hanging_up = threading.Thread(target=hang_up, args=(listener,), daemon=True)
        hanging_up.start()
        uvloop.run(ask_often(listener.getsockname()[1]))
        listener.shutdown(socket.SHUT_RDWR)
        hanging_up.join(5)


def test_a_rest_says_nothing_of_the_pace(redis_url: str, redis: Redis, worker: RQWorker) -> None:
    """Who is refused after ten quiet minutes is told by how fast images left before them."""
    job = submit(redis_url, images=4)
    worker.end([(take(worker), SUCCEEDED)])
    assert ask(redis_url, lambda store: store.load(MODEL)).images_per_s > 0
    ago = datetime.now(UTC) - timedelta(minutes=10)
    ran = {"started_at": ago, "ended_at": ago + timedelta(seconds=2)}
    redis.hset(f"rq:job:{job.id}", mapping={name: utcformat(at) for name, at in ran.items()})
    redis.zincrby("rq:finished:movq.emoji-64.normal", -600, job.id)
    load = ask(redis_url, lambda store: store.load(MODEL))
    assert (load.images_per_s, load.steps_an_image) == pytest.approx((2.0, 12.0))
    assert load.retry_after_s(3) == 2


def test_more_steps_than_before_take_longer(redis_url: str, redis: Redis, worker: RQWorker) -> None:
    """The pace was that of twelve steps, four images in two seconds; those that run now take sixty."""
    job = submit(redis_url, images=4)
    worker.end([(take(worker), SUCCEEDED)])
    ago = datetime.now(UTC) - timedelta(seconds=10)
    ran = {"started_at": ago, "ended_at": ago + timedelta(seconds=2)}
    redis.hset(f"rq:job:{job.id}", mapping={name: utcformat(at) for name, at in ran.items()})
    submit(redis_url, images=4, steps=60)
    take(worker)
    load = ask(redis_url, lambda store: store.load(MODEL))
    assert [(running.images, running.steps) for running in load.in_flight] == [(4, 60)]
    assert load.retry_after_s(1) == 10
    redis.hset(f"rq:job:{job.id}", "steps", "many")
    assert ask(redis_url, lambda store: store.load(MODEL)).images_per_s == 0.0, "an odd record tells nothing"
