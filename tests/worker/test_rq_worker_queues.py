"""Three queues and their shares, deadlines, and what is told to those who watch."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable

import pytest
from redis import Redis
from rq.job import JobStatus

from movq_core.blobs import BlobStore
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest, Priority
from tests.worker.test_rq_worker import (
    OUTPUT,
    Crew,
    Shop,
    bare_worker,
    blobs,
    end,
    expire_leases,
    hire,
    shop,
    take_one,
    until,
)
from worker.claim import Ending, Lease
from worker.engine import Engine
from worker.fakes import TINY, FakeRunner
from worker.intake import Intake
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.rq_worker import connect
from worker.work import Watch

__all__ = ["blobs", "hire", "shop"]  # the fixtures

SUCCEEDED = Ending("succeeded", output=OUTPUT)
HIGH, NORMAL, LOW = Priority


def set_deadline(shop: Shop, job_id: str, seconds: float, from_now_s: float) -> None:
    """As the service's script does."""
    now_s, micros = shop.redis.time()
    deadline_at = now_s + micros / 1e6 + from_now_s
    shop.redis.hset(f"rq:job:{job_id}", mapping={"deadline_s": seconds, "deadline_at": deadline_at})


def watch(shop: Shop, job_id: str, seconds: float = 60) -> None:
    """As the service's script does for a job that waits."""
    shop.redis.xadd(f"movq:events:{job_id}", {"type": "queued", "data": "{}"})
    shop.redis.zadd(f"movq:watchers:{job_id}", {"somebody": time.time() + seconds})


def events(shop: Shop, job_id: str) -> list[tuple[str, dict[str, object]]]:
    found = shop.redis.xrange(f"movq:events:{job_id}")
    return [(fields[b"type"].decode(), json.loads(fields[b"data"])) for _, fields in found]


# -- shares ---------------------------------------------------------------------------------------


def test_busy_queues_share_by_their_weights(shop: Shop, redis_url: str) -> None:
    """By images, not by jobs: those of the high queue are twice as large."""
    with bare_worker(redis_url) as worker:
        for priority in Priority:
            request = GenerateRequest(num_images=2 if priority is HIGH else 1)
            for _ in range(100):
                job_id = shop.submit(request, priority=priority)
                shop.redis.hset(f"rq:job:{job_id}", "images", request.num_images)
        images: Counter[str] = Counter()
        while images.total() < 70:
            for claim in worker.take(3):
                images[claim.queue] += claim.request().num_images
                assert end(worker, claim, SUCCEEDED) is Lease.OWNED
        shares = {queue.rpartition(".")[2]: count / images.total() for queue, count in images.items()}
        assert shares["high"] == pytest.approx(4 / 7, abs=0.04)
        assert shares["normal"] == pytest.approx(2 / 7, abs=0.04)
        assert shares["low"] == pytest.approx(1 / 7, abs=0.04)


def test_the_share_of_an_empty_queue_goes_to_the_others_and_is_not_saved_up(
    shop: Shop, redis_url: str
) -> None:
    with bare_worker(redis_url) as worker:
        for _ in range(60):
            shop.submit(priority=LOW)
            shop.submit(priority=NORMAL)
        taken = [take_one(worker).queue for _ in range(30)]
        assert taken.count("movq.tiny.normal") == 20
        for _ in range(40):
            shop.submit(priority=HIGH)
        late = Counter(take_one(worker).queue for _ in range(28))
        assert 15 <= late["movq.tiny.high"] <= 17, "not more, for what it did not ask for before"


def test_low_work_is_done_while_high_work_never_ends(shop: Shop, hire: Callable[..., Crew]) -> None:
    """One job at a time, so that what was taken before must be remembered."""
    high = [shop.submit(priority=HIGH) for _ in range(150)]
    low = [shop.submit(priority=LOW) for _ in range(10)]
    crew = hire(credits=1)
    crew.engine.gate.set()
    until(shop.all_are([*low, *high], JobStatus.FINISHED), 30)
    order = ["low" if job_id in low else "high" for job_id in crew.engine.ran]
    last_low = len(order) - order[::-1].index("low")
    assert 40 <= last_low <= 52, "a low one for every four high ones, and far from the last"


def test_a_bell_hangs_at_each_queue(shop: Shop, hire: Callable[..., Crew]) -> None:
    hire().engine.gate.set()
    for priority in (LOW, HIGH, NORMAL):
        begun_s = time.monotonic()
        until(shop.all_are([shop.submit(priority=priority)], JobStatus.FINISHED), 5)
        assert time.monotonic() - begun_s < 1.0


def test_a_lost_job_goes_back_to_its_own_queue(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        low, high = shop.submit(priority=LOW), shop.submit(priority=HIGH, retries=0)
        lost = {claim.job_id: claim for claim in worker.take(2)}
        for wip in shop.redis.keys("rq:wip:*"):
            shop.redis.zadd(wip, dict.fromkeys(shop.redis.zrange(wip, 0, -1), 1))
        assert worker.reap() == {"lease": 1, "exhausted": 1, "stranded": 0}
        assert shop.redis.lrange("rq:queue:movq.tiny.low", 0, -1) == [low.encode()]
        assert shop.redis.zscore("rq:failed:movq.tiny.high", high) is not None
        assert end(worker, lost[high], SUCCEEDED) is Lease.LOST
        assert worker.give_back(take_one(worker))
        assert shop.redis.lrange("rq:queue:movq.tiny.low", 0, -1) == [low.encode()]
        assert end(worker, take_one(worker), Ending("failed", message="again", retry=True)) is Lease.OWNED
        assert shop.redis.lrange("rq:queue:movq.tiny.low", 0, -1) == [low.encode()]
        assert end(worker, take_one(worker), SUCCEEDED) is Lease.OWNED
        assert shop.redis.zscore("rq:finished:movq.tiny.low", low) is not None
        assert shop.redis.keys("rq:wip:*") == []


# -- deadlines ------------------------------------------------------------------------------------


def test_an_expired_job_fails_at_once_and_spends_no_retry(shop: Shop, hire: Callable[..., Crew]) -> None:
    expired = shop.submit(retries=2)
    set_deadline(shop, expired, seconds=5, from_now_s=-0.1)
    crew = hire()
    until(shop.all_are([expired], JobStatus.FAILED))
    assert shop.error(expired) == "The deadline of 5 s passed while it waited."
    assert shop.job(expired).retries_left == 2
    assert not crew.engine.waiting
    shop.assert_at_rest([expired])


def test_a_running_job_is_cancelled_at_its_deadline(shop: Shop, hire: Callable[..., Crew]) -> None:
    late, in_time = shop.submit(timeout=60), shop.submit()
    set_deadline(shop, late, seconds=1.5, from_now_s=0.7)
    crew = hire()
    until(lambda: len(crew.engine.waiting) == 2)
    begun_s = time.monotonic()
    until(shop.all_are([late], JobStatus.FAILED))
    assert time.monotonic() - begun_s < 1.5
    assert shop.error(late) == "The deadline of 1.5 s passed while it ran."
    assert list(crew.engine.waiting) == [in_time], "the engine has let go of it"
    assert shop.job(late).retries_left == 2
    crew.engine.gate.set()
    until(shop.all_are([in_time], JobStatus.FINISHED))


def test_a_job_that_comes_back_keeps_its_deadline(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit()
        set_deadline(shop, job_id, seconds=30, from_now_s=30)
        take_one(worker)
        expire_leases(shop)
        worker.reap()
        claim = take_one(worker)
        assert claim.left_s is not None
        assert 28 < claim.left_s <= 30


# -- watching -------------------------------------------------------------------------------------


def test_steps_and_previews_of_watched_jobs_alone(shop: Shop, redis_url: str, blobs: BlobStore) -> None:
    """The real engine, on a device that takes its time."""
    metrics, worker = WorkerMetrics(), connect(redis_url, "tiny", lease_s=15)
    engine = Engine(FakeRunner(lambda _: time.sleep(0.02)), 4, metrics)
    pool = ImagePool(blobs, TINY, metrics, threads=2)
    worker.open()
    intake = Intake(worker, pool, engine.inbox, engine.outbox, metrics, credits=4)
    request = GenerateRequest(sampling=SamplingParams(steps=12))
    watched, unwatched = shop.submit(request), shop.submit(request)
    watch(shop, watched)
    engine.start()
    intake.start()
    until(shop.all_are([watched, unwatched], JobStatus.FINISHED))
    told = events(shop, watched)
    steps = [data["taken"] for event, data in told if event == "step"]
    previews = [data for event, data in told if event == "preview"]
    assert [told[0][0], told[1][0], told[-1]] == ["queued", "started", ("done", {"status": "succeeded"})]
    assert steps == sorted(set(steps))
    assert steps[-1] == 12
    assert previews
    assert blobs.get(str(previews[0]["image_key"]))[8:12] == b"WEBP"
    assert shop.redis.keys("movq:events:*") == [f"movq:events:{watched}".encode()]
    intake.drain()
    intake.join(10)
    engine.stop(5)
    pool.close()


def test_a_listener_who_comes_and_goes_while_the_job_runs(shop: Shop, hire: Callable[..., Crew]) -> None:
    """By a message, and when that was lost by the next renewal."""
    crew = hire(renew_s=0.3)
    job_id = shop.submit()
    until(lambda: job_id in crew.engine.waiting)
    shop.redis.publish("movq:watch:tiny", "no JSON")
    watch(shop, job_id)
    shop.redis.publish("movq:watch:tiny", json.dumps({"job_id": job_id, "watched": True}))
    until(lambda: crew.engine.watches == [Watch(job_id, True)])
    shop.redis.delete(f"movq:watchers:{job_id}")
    until(lambda: crew.engine.watches[1:] == [Watch(job_id, False)])
    watch(shop, job_id)
    until(lambda: crew.engine.watches[2:] == [Watch(job_id, True)])


def test_rq_info_reads_three_queues(shop: Shop, hire: Callable[..., Crew], redis_url: str) -> None:
    crew = hire(credits=3)
    for priority in Priority:
        shop.submit(priority=priority)
    until(lambda: len(crew.engine.waiting) == 3)
    with Redis.from_url(redis_url) as redis:
        assert (
            redis.smembers("rq:workers:movq.tiny.low") == redis.smembers("rq:workers:movq.tiny.high") != set()
        )
    assert crew.worker.current_execution_count == 3
