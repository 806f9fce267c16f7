"""The RQ worker against a real server: one owner for each job, whatever happens."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, Retry
from rq.command import send_stop_execution_command
from rq.job import Job, JobStatus
from rq.results import Result

from movq_core.blobs import BlobStore
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.errors import InvalidRequest, QueueUnavailable
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest, JobOutput, Priority, Timings, queue_name
from tests.worker.stand_in_engine import StandInEngine
from worker.claim import Claim, Ending, Lease, Renewal
from worker.intake import Intake
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.rq_worker import RQWorker, connect

OWNED = Renewal(Lease.OWNED, watched=False, stop=False)
LOST = Renewal(Lease.LOST, watched=False, stop=False)
STOPPED = Ending("stopped", message="stopped on request")
OUTPUT = JobOutput(
    image_keys=["k"], seeds=[1], height=8, width=8, timings=Timings(waited_s=0, ran_s=0, encoded_s=0)
)

TINY = Manifest(
    name="tiny", movq=MOVQ_PRESETS["tiny"], maskgit=MASKGIT_PRESETS["tiny"], labels=("a", "b", "c")
)


class Shop:
    """A queue seen from outside: what a service would do, and what must hold afterwards."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url)
        self.queue = Queue(queue_name("tiny", Priority.NORMAL), connection=self.redis, serializer="json")

    def submit(
        self,
        request: GenerateRequest | None = None,
        *,
        retries: int = 2,
        priority: Priority = Priority.NORMAL,
        **options: object,
    ) -> str:
        request = request or GenerateRequest()
        function = str(options.pop("function", request.kind.function))
        kwargs = options.pop("kwargs", {"request": request.model_dump(mode="json")})
        queue = Queue(queue_name("tiny", priority), connection=self.redis, serializer="json")
        job = queue.enqueue_call(
            function,
            kwargs=kwargs,
            timeout=options.pop("timeout", 60),
            result_ttl=600,
            failure_ttl=600,
            retry=Retry(max=retries) if retries else None,
            job_id=str(uuid.uuid4()),
        )
        assert not options
        return str(job.id)

    def job(self, job_id: str) -> Job:
        return Job.fetch(job_id, connection=self.redis, serializer="json")

    def status(self, job_id: str) -> JobStatus:
        return self.job(job_id).get_status()

    def output(self, job_id: str) -> JobOutput:
        return JobOutput.model_validate(self.job(job_id).return_value())

    def error(self, job_id: str) -> str | None:
        result = self.job(job_id).latest_result()
        return result.exc_string if result else None

    def all_are(self, job_ids: list[str], status: JobStatus) -> Callable[[], bool]:
        return lambda: all(self.status(job_id) is status for job_id in job_ids)

    def started(self) -> int:
        return int(self.redis.zcard(self.queue.started_job_registry.key))

    def assert_at_rest(self, job_ids: list[str]) -> None:
        """Every job in exactly one final state with one result; nothing left in between."""
        for job_id in job_ids:
            assert self.status(job_id) in (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED)
            assert Result.count(self.job(job_id)) == 1
        assert self.started() == 0
        assert self.redis.llen(self.queue.intermediate_queue_key) == 0
        assert self.queue.count == 0


class Crew:
    """One worker with a stand-in engine."""

    def __init__(self, url: str, blobs: BlobStore, **options: float) -> None:
        self.metrics = WorkerMetrics()
        self.engine = StandInEngine()
        self.pool = ImagePool(blobs, TINY, self.metrics, threads=2)
        self.worker = connect(url, "tiny", lease_s=int(options.pop("lease_s", 15)))
        self.worker.open()
        self.intake = Intake(
            self.worker,
            self.pool,
            self.engine.inbox,
            self.engine.outbox,
            self.metrics,
            credits=int(options.pop("credits", 12)),
            renew_s=options.pop("renew_s", 0.2),
            grace_s=options.pop("grace_s", 5.0),
        )
        assert not options

    def start(self) -> None:
        self.engine.start()
        self.intake.start()

    def stop(self) -> None:
        self.intake.drain()
        self.intake.join(10)
        assert not self.intake.is_alive()
        self.engine.stop(5)
        self.pool.close()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def shop(redis_url: str) -> Iterator[Shop]:
    shop = Shop(redis_url)
    yield shop
    shop.redis.close()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


@pytest.fixture
def hire(redis_url: str, blobs: BlobStore) -> Iterator[Callable[..., Crew]]:
    crews: list[Crew] = []

    def make(**options: float) -> Crew:
        crew = Crew(redis_url, blobs, **options)
        crews.append(crew)
        crew.start()
        return crew

    yield make
    for crew in crews:
        crew.engine.gate.set()
        crew.stop()


@contextmanager
def bare_worker(url: str, lease_s: int = 15) -> Iterator[RQWorker]:
    """A worker without a loop, to put it exactly where it hurts."""
    worker = connect(url, "tiny", lease_s=lease_s)
    worker.open()
    yield worker
    worker.close()


def take_one(worker: RQWorker) -> Claim:
    (claim,) = worker.take(1)
    return claim


def end(worker: RQWorker, claim: Claim, ending: Ending) -> Lease:
    (lease,) = worker.end([(claim, ending)])
    return lease


def until(true: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def expire_leases(shop: Shop) -> None:
    """As if the owner had been dead for longer than its lease."""
    key = shop.queue.started_job_registry.key
    for member in shop.redis.zrange(key, 0, -1):
        shop.redis.zadd(key, {member: 1})


def test_a_job_becomes_an_image(shop: Shop, hire: Callable[..., Crew], blobs: BlobStore) -> None:
    crew = hire()
    crew.engine.gate.set()
    job_id = shop.submit(GenerateRequest(num_images=3, sampling=SamplingParams(seed=7)))
    until(shop.all_are([job_id], JobStatus.FINISHED))
    output = shop.output(job_id)
    assert output.seeds[0] == 7
    assert len(set(output.seeds)) == 3
    assert [blobs.get(key)[:4] for key in output.image_keys] == [b"\x89PNG"] * 3
    assert (output.height, output.width) == (8, 8)
    shop.assert_at_rest([job_id])
    assert crew.metric("movq_images_total", kind="generate") == 3
    assert crew.metric("movq_jobs_completed_total", kind="generate", outcome="succeeded") == 1


def test_many_jobs_are_in_flight_at_once_and_no_more_than_the_credits(
    shop: Shop, hire: Callable[..., Crew]
) -> None:
    crew = hire(credits=5)
    job_ids = [shop.submit() for _ in range(8)]
    until(lambda: len(crew.engine.waiting) == 5)
    time.sleep(0.1)
    assert shop.started() == 5
    assert shop.queue.count == 3
    crew.engine.gate.set()
    until(shop.all_are(job_ids, JobStatus.FINISHED))
    shop.assert_at_rest(job_ids)
    assert crew.engine.ran == job_ids


def test_images_that_are_being_stored_hold_no_row(
    shop: Shop, hire: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows stand empty while PNGs are written; but no more are stored than there are credits."""
    crew, may_store = hire(credits=3), threading.Event()
    store = crew.pool._store
    monkeypatch.setattr(crew.pool, "_store", lambda outcome: may_store.wait(10) and store(outcome))
    crew.engine.gate.set()
    job_ids = [shop.submit() for _ in range(9)]
    until(lambda: len(crew.engine.ran) == 6)
    time.sleep(0.1)
    assert shop.started() == 6
    may_store.set()
    until(shop.all_are(job_ids, JobStatus.FINISHED))
    shop.assert_at_rest(job_ids)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"function": "os.system"}, "unknown function 'os.system'"),
        ({"kwargs": {"request": {"kind": "generate", "class_id": -1}}}, "class_id"),
        ({"kwargs": {}}, "not valid"),
        ({"function": "movq.decode"}, "given a request of kind generate"),
    ],
)
def test_a_poison_job_fails_alone_and_at_once(
    shop: Shop, hire: Callable[..., Crew], options: dict[str, object], said: str
) -> None:
    crew = hire()
    crew.engine.gate.set()
    poison = shop.submit(**options)
    healthy = shop.submit()
    until(shop.all_are([healthy], JobStatus.FINISHED))
    until(shop.all_are([poison], JobStatus.FAILED))
    error = shop.error(poison)
    assert error is not None
    assert said in error
    assert "Traceback" not in error
    shop.assert_at_rest([poison, healthy])


def test_a_pickled_job_is_never_unpickled(shop: Shop, hire: Callable[..., Crew]) -> None:
    hire()
    job = Queue(shop.queue.name, connection=shop.redis).enqueue("os.getpid", job_id=str(uuid.uuid4()))
    until(shop.all_are([job.id], JobStatus.FAILED))
    assert shop.error(job.id) == "the job's data is not JSON"


def test_a_record_that_is_no_job_does_not_block_the_queue(shop: Shop, hire: Callable[..., Crew]) -> None:
    shop.redis.hset("rq:job:broken", mapping={"data": b"{}", "created_at": "yesterday", "status": "queued"})
    shop.redis.set("rq:job:string", "no hash")
    shop.redis.rpush(shop.queue.key, "broken", "string", "absent")
    job_id = shop.submit()
    hire().engine.gate.set()
    until(shop.all_are([job_id], JobStatus.FINISHED))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", "inf"),
        ("timeout", "9" * 400),
        ("timeout", "-1"),
        ("deadline_at", "soon"),
        ("deadline_s", "soon"),
        ("images", "1e9"),
        ("images", "nan"),
        ("images", "-1e9"),
        ("result_ttl", "9" * 30),
        ("failure_ttl", "x"),
        ("retries_left", "many"),
        ("dependency_ids", "["),
        ("meta", b"\xff"),
        ("data", b'["os.system", null, ["touch /tmp/hacked"], {}]'),
        ("data", b"[" * 100_000),
        ("success_callback_name", "os.abort"),
        ("owner", "../../etc"),
        ("webhook_url", b"\xff"),
    ],
)
def test_a_hostile_field_harms_no_other_job(
    shop: Shop, hire: Callable[..., Crew], field: str, value: str | bytes
) -> None:
    """Who can write to Redis can end or forge jobs; not stop a worker, nor make it run code."""
    hostile = shop.submit(retries=0)
    shop.redis.hset(f"rq:job:{hostile}", field, value)
    healthy = [shop.submit() for _ in range(3)]
    crew = hire()
    crew.engine.gate.set()
    until(shop.all_are(healthy, JobStatus.FINISHED), 8)
    until(lambda: shop.redis.hget(f"rq:job:{hostile}", "status") in (b"finished", b"failed"), 8)
    assert shop.started() == 0
    assert crew.intake.is_alive()


@pytest.mark.parametrize("job_id", ["a:b:c", "%s%d", "*", "a\nb", "\x00", "../x", "{x}", "é" * 100])
def test_an_odd_job_id_harms_no_other_job(shop: Shop, hire: Callable[..., Crew], job_id: str) -> None:
    shop.redis.rename(f"rq:job:{(made := shop.submit())}", f"rq:job:{job_id}")
    shop.redis.lrem(shop.queue.key, 0, made)
    shop.redis.lpush(shop.queue.key, job_id)
    healthy = shop.submit()
    crew = hire()
    crew.engine.gate.set()
    until(shop.all_are([healthy], JobStatus.FINISHED), 8)
    assert crew.intake.is_alive()


def test_our_errors_are_final_and_others_are_tried_again(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire()
    crew.engine.raises = {1: InvalidRequest("class 1 is shut"), 2: RuntimeError("secret detail")}
    with structlog.testing.capture_logs() as lines:
        crew.engine.gate.set()
        refused = shop.submit(GenerateRequest(class_id=1))
        broken = shop.submit(GenerateRequest(class_id=2), retries=2)
        healthy = shop.submit()
        until(shop.all_are([refused, broken], JobStatus.FAILED))
        until(shop.all_are([healthy], JobStatus.FINISHED))
    assert shop.error(refused) == "class 1 is shut"
    assert shop.error(broken) == "internal error (RuntimeError)"
    assert crew.metric("movq_jobs_completed_total", kind="generate", outcome="retried") == 2
    shop.assert_at_rest([refused, broken, healthy])
    told = [line for line in lines if "exc_info" in line]
    assert [(line["job_id"], str(line["exc_info"])) for line in told] == [(broken, "secret detail")] * 3


def test_stop_ends_exactly_one_of_many(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire()
    job_ids = [shop.submit() for _ in range(4)]
    until(lambda: len(crew.engine.waiting) == 4)
    time.sleep(2.2)  # the listener has woken without a message at least once
    third = job_ids[2]
    (execution_id,) = shop.job(third).execution_registry.get_execution_ids()
    send_stop_execution_command(shop.redis, third, execution_id)
    until(shop.all_are([third], JobStatus.STOPPED))
    assert len(crew.engine.waiting) == 3
    crew.engine.gate.set()
    rest = [job_id for job_id in job_ids if job_id != third]
    until(shop.all_are(rest, JobStatus.FINISHED))
    shop.assert_at_rest(job_ids)


def test_a_malformed_command_does_not_kill_the_listener(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire()
    job_id = shop.submit()
    until(lambda: len(crew.engine.waiting) == 1)
    for payload in (b"\xff", b"[]", b"{}", b'{"command": "kill-horse"}'):
        shop.redis.publish(crew.worker.pubsub_channel_name, payload)
    shop.redis.publish(crew.worker.pubsub_channel_name, f'{{"command": "stop-job", "job_id": "{job_id}"}}')
    until(shop.all_are([job_id], JobStatus.STOPPED))


def test_a_job_cancelled_while_queued_is_not_run(shop: Shop, redis_url: str) -> None:
    """CANCELED and still in the list: RQ alone would overwrite it by STARTED."""
    with bare_worker(redis_url) as worker:
        job_id, other = shop.submit(), shop.submit()
        shop.redis.hset(Job.key_for(job_id), "status", "canceled")
        assert [claim.job_id for claim in worker.take(2)] == [other]
        assert shop.status(job_id) is JobStatus.CANCELED
        assert shop.queue.count == 0


def test_a_take_fills_the_room_there_is_and_keeps_the_order(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_ids = [shop.submit(GenerateRequest(num_images=4)) for _ in range(5)]
        for job_id in job_ids:
            shop.redis.hset(Job.key_for(job_id), "images", 4)  # as the service does
        claims = worker.take(9)
        assert [claim.job_id for claim in claims] == job_ids[:3], "the last may have more"
        assert shop.redis.hget(f"rq:execution:{claims[0].member}", "images") == b"4", (
            "the service adds them up"
        )
        assert shop.queue.job_ids == job_ids[3:]
        assert [claim.job_id for claim in worker.take(100)] == job_ids[3:]


def test_what_a_claim_writes_is_what_rq_reads(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit()
        claim = take_one(worker)
        job = shop.job(job_id)
        (execution,) = job.get_executions()
        assert (job.get_status(), job.worker_name) == (JobStatus.STARTED, worker.name)
        assert (job.started_at, job.last_heartbeat) == (claim.started_at, claim.started_at)
        assert (execution.id, execution.worker_name) == (claim.execution_id, worker.name)
        assert execution.created_at == claim.started_at
        assert shop.queue.started_job_registry.get_job_ids(cleanup=False) == [job_id]
        assert worker.current_execution_count == 1


def test_what_an_ending_writes_is_what_rq_reads(shop: Shop, redis_url: str) -> None:
    endings = {
        JobStatus.FINISHED: Ending("succeeded", output=OUTPUT),
        JobStatus.FAILED: Ending("failed", message="no such class"),
        JobStatus.STOPPED: STOPPED,
    }
    with bare_worker(redis_url) as worker:
        for status, ending in endings.items():
            job_id = shop.submit()
            claim = take_one(worker)
            assert end(worker, claim, ending) is Lease.OWNED
            job, result = shop.job(job_id), shop.job(job_id).latest_result()
            assert result is not None
            assert job.get_status() is status
            assert (job.started_at, job.ended_at) == (claim.started_at, result.execution_ended_at)
            assert (result.worker_name, result.execution_id) == (worker.name, claim.execution_id)
            assert 590 <= shop.redis.ttl(job.key) <= 600
            assert 590 <= shop.redis.ttl(Result.get_key(job_id)) <= 600
            assert job.get_executions() == []
            shop.assert_at_rest([job_id])
            succeeded = status is JobStatus.FINISHED
            assert job.return_value() == (ending.output.model_dump(mode="json") if ending.output else None)
            assert result.exc_string == (None if succeeded else ending.message)
            assert (job_id in shop.queue.finished_job_registry) == succeeded
            assert (job_id in shop.queue.failed_job_registry) != succeeded
        worker.renew({})
        worker.refresh()
        assert (worker.successful_job_count, worker.failed_job_count) == (1, 2)
        assert worker.current_execution_count == 0


def test_a_job_that_is_tried_again_is_queued_as_rq_would(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id, other = shop.submit(retries=2), shop.submit()
        claim = take_one(worker)
        assert end(worker, claim, Ending("failed", message="try again", retry=True)) is Lease.OWNED
        assert shop.queue.job_ids == [other, job_id]
        assert (shop.status(job_id), shop.job(job_id).retries_left) == (JobStatus.QUEUED, 1)
        assert Result.count(shop.job(job_id)) == 0
        assert shop.started() == 0


def test_a_failed_job_that_is_requeued_by_hand_does_not_expire_while_it_runs(
    shop: Shop, redis_url: str
) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit()
        end(worker, take_one(worker), Ending("failed", message="no"))
        shop.queue.failed_job_registry.requeue(job_id)
        assert shop.redis.ttl(Job.key_for(job_id)) > 0
        assert end(worker, take_one(worker), Ending("succeeded", output=OUTPUT)) is Lease.OWNED
        shop.redis.delete(Result.get_key(job_id))
        shop.queue.finished_job_registry.requeue(job_id)
        take_one(worker)
        assert shop.redis.ttl(Job.key_for(job_id)) == -1


def test_a_job_cancelled_behind_the_workers_back_is_dropped(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire()
    job_id = shop.submit()
    until(lambda: len(crew.engine.waiting) == 1)
    shop.job(job_id).cancel()
    until(lambda: not crew.engine.waiting)
    assert shop.status(job_id) is JobStatus.CANCELED
    assert shop.started() == 0


def test_a_job_that_takes_too_long_fails_alone(shop: Shop, hire: Callable[..., Crew]) -> None:
    hire()
    job_id = shop.submit(timeout=1)
    until(shop.all_are([job_id], JobStatus.FAILED))
    assert shop.error(job_id) == "took longer than 1 s"
    shop.assert_at_rest([job_id])


def test_a_dead_workers_job_runs_again_and_spends_a_retry(
    shop: Shop, redis_url: str, hire: Callable[..., Crew]
) -> None:
    with bare_worker(redis_url) as dead:
        job_id = shop.submit(retries=2)
        take_one(dead)
        expire_leases(shop)
        crew = hire()
        crew.engine.gate.set()
        until(shop.all_are([job_id], JobStatus.FINISHED))
        assert shop.job(job_id).retries_left == 1
        assert crew.metric("movq_jobs_recovered_total", reason="lease") == 1


def test_a_job_on_its_last_try_runs_alone_and_can_be_stopped_while_it_waits(
    shop: Shop, redis_url: str, hire: Callable[..., Crew]
) -> None:
    with bare_worker(redis_url) as dead:
        suspects = [shop.submit(retries=1) for _ in range(2)]
        assert [claim.job_id for claim in dead.take(2)] == suspects
        expire_leases(shop)
        dead.reap()
    others = [shop.submit() for _ in range(3)]
    crew = hire()
    until(lambda: len(crew.engine.waiting) == 1)
    time.sleep(0.1)
    (first,) = crew.engine.waiting
    assert first in suspects
    assert shop.started() == 1
    crew.engine.gate.set()
    until(shop.all_are([*suspects, *others], JobStatus.FINISHED))

    crew.engine.gate.clear()
    neighbour = shop.submit()
    until(lambda: len(crew.engine.waiting) == 1)
    suspect = shop.submit(retries=0)
    shop.redis.hset(Job.key_for(suspect), "lost", 1)
    until(lambda: shop.started() == 2 or shop.status(suspect) is JobStatus.STARTED)
    shop.redis.publish(crew.worker.pubsub_channel_name, f'{{"command": "stop-job", "job_id": "{suspect}"}}')
    until(shop.all_are([suspect], JobStatus.STOPPED))
    crew.engine.gate.set()
    until(shop.all_are([neighbour], JobStatus.FINISHED))
    shop.assert_at_rest([*suspects, *others, neighbour, suspect])


def test_a_job_that_lost_its_last_worker_fails_clearly(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit(retries=0)
        claim = take_one(worker)
        expire_leases(shop)
        assert worker.reap() == {"lease": 0, "exhausted": 1, "stranded": 0}
        assert shop.status(job_id) is JobStatus.FAILED
        assert "no retry is left" in (shop.error(job_id) or "")
        # Its late owner finds the lease lost and must not add a second result.
        assert end(worker, claim, Ending("failed", message="late")) is Lease.LOST
        shop.assert_at_rest([job_id])


def test_a_lost_lease_cannot_finish_a_job(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as slow, bare_worker(redis_url) as other:
        job_id = shop.submit()
        old = take_one(slow)
        expire_leases(shop)
        other.reap()
        new = take_one(other)
        assert end(slow, old, STOPPED) is Lease.LOST
        assert slow.renew({old: None}) == [LOST]
        assert not slow.give_back(old)
        assert shop.status(job_id) is JobStatus.STARTED
        assert other.renew({new: None}) == [OWNED]
        assert [e.id for e in shop.job(job_id).get_executions()] == [new.execution_id]
        assert end(other, new, STOPPED) is Lease.OWNED
        shop.assert_at_rest([job_id])


def test_the_reaper_takes_a_lost_execution_from_its_workers_list(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as dead, bare_worker(redis_url) as other:
        shop.submit()
        take_one(dead)
        assert dead.current_execution_count == 1
        expire_leases(shop)
        other.reap()
        assert dead.current_execution_count == 0


def test_who_has_just_started_lets_others_prove_their_leases(
    shop: Shop, hire: Callable[..., Crew], redis_url: str
) -> None:
    """It may have missed an outage of Redis that was longer than a lease."""
    with bare_worker(redis_url) as other:
        shop.submit()
        claim = take_one(other)
        expire_leases(shop)
        hire()
        time.sleep(1.0)
        assert other.renew({claim: None}) == [OWNED]


def test_jobs_end_together_each_by_its_own_lease(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_ids = [shop.submit() for _ in range(3)]
        claims = worker.take(3)
        shop.redis.zrem(shop.queue.started_job_registry.key, claims[1].member)
        leases = worker.end([(claim, STOPPED) for claim in claims])
        assert leases == [Lease.OWNED, Lease.LOST, Lease.OWNED]
        stopped, started = JobStatus.STOPPED, JobStatus.STARTED
        assert [shop.status(job_id) for job_id in job_ids] == [stopped, started, stopped]


def test_a_server_that_forgot_the_scripts_learns_them_again(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit()
        claim = take_one(worker)
        shop.redis.script_flush()
        assert worker.renew({claim: None}) == [OWNED]
        shop.redis.script_flush()
        assert end(worker, claim, STOPPED) is Lease.OWNED
        shop.assert_at_rest([job_id])


def test_a_job_reaped_by_many_is_put_back_once(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as one, bare_worker(redis_url) as two:
        for _ in range(20):
            shop.submit()
            take_one(one)
        expire_leases(shop)
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda worker=worker: found.append(worker.reap()["lease"]))
            for worker in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(found) == 20
        assert shop.queue.count == 20


def test_an_id_left_between_two_lists_comes_back_without_a_retry(shop: Shop, redis_url: str) -> None:
    """RQ's own way of taking leaves it there when it dies in the middle."""
    with bare_worker(redis_url) as worker:
        job_id = shop.submit(retries=2)
        Queue.dequeue_any([shop.queue], None, worker.connection, serializer=worker.serializer)
        assert sum(worker.reap()["stranded"] for _ in worker.queues) == 0
        worker._reaper._stranded_since_s[job_id] -= 16
        assert sum(worker.reap()["stranded"] for _ in worker.queues) == 1
        assert shop.queue.job_ids == [job_id]
        assert take_one(worker).retries_left == 2


def test_a_take_whose_answer_was_lost_goes_back_at_the_next_renewal(shop: Shop, redis_url: str) -> None:
    """However late it ran: nobody knows the execution, and Redis names it among ours."""
    with bare_worker(redis_url) as worker:
        kept, lost = shop.submit(), shop.submit()
        claim = take_one(worker)
        with monkeypatched(worker, "_take", lose_the_answer(worker._take)), pytest.raises(QueueUnavailable):
            worker.take(1)
        assert shop.status(lost) is JobStatus.STARTED
        assert worker.renew({claim: None}) == [OWNED]
        assert shop.status(lost) is JobStatus.QUEUED
        assert shop.job(lost).retries_left == 2
        assert shop.status(kept) is JobStatus.STARTED
        assert take_one(worker).job_id == lost
        assert worker.take(1) == []


def test_an_ending_whose_answer_was_lost_ends_a_job_once(shop: Shop, redis_url: str) -> None:
    with bare_worker(redis_url) as worker:
        job_id = shop.submit()
        claim = take_one(worker)
        with (
            monkeypatched(Pipeline, "execute", lose_the_answer(Pipeline.execute)),
            pytest.raises(QueueUnavailable),
        ):
            end(worker, claim, STOPPED)
        assert end(worker, claim, STOPPED) is Lease.LOST
        shop.assert_at_rest([job_id])


@contextmanager
def monkeypatched(target: object, name: str, value: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def lose_the_answer(act: Callable[..., object]) -> Callable[..., None]:
    """Redis does it, and its answer comes too late."""

    def acted(*arguments: object) -> None:
        act(*arguments)
        raise RedisTimeoutError("Timeout reading from socket")

    return acted


def test_drain_finishes_what_is_in_flight_and_takes_no_more(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire(credits=4)
    job_ids = [shop.submit() for _ in range(6)]
    until(lambda: len(crew.engine.waiting) == 4)
    crew.intake.drain()
    time.sleep(0.1)
    crew.engine.gate.set()
    crew.intake.join(5)
    assert not crew.intake.is_alive()
    assert [shop.status(job_id) for job_id in job_ids] == [JobStatus.FINISHED] * 4 + [JobStatus.QUEUED] * 2
    assert shop.redis.smembers("rq:workers") == set()


def test_drain_hands_back_in_order_what_the_grace_does_not_reach(
    shop: Shop, hire: Callable[..., Crew]
) -> None:
    crew = hire(credits=4, grace_s=0.2)
    job_ids = [shop.submit() for _ in range(6)]
    until(lambda: len(crew.engine.waiting) == 4)
    crew.intake.drain()
    crew.intake.join(5)
    assert not crew.intake.is_alive()
    assert shop.queue.job_ids == job_ids
    assert [shop.job(job_id).retries_left for job_id in job_ids] == [2] * 6
    assert shop.started() == 0
    until(lambda: not crew.engine.waiting)


def test_whatever_happens_wakes_the_intake(
    shop: Shop, redis_url: str, hire: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing waits for a look that it takes now and then: here it takes none for a minute."""
    monkeypatch.setattr("worker.intake.LOOK_S", 60.0)
    with bare_worker(redis_url) as dead:
        suspect = shop.submit(retries=1)
        take_one(dead)
        expire_leases(shop)
        dead.reap()
    crew = hire(renew_s=60.0)
    crew.engine.gate.set()
    until(shop.all_are([suspect], JobStatus.FINISHED), 5)
    until(shop.all_are([shop.submit()], JobStatus.FINISHED), 5)
    until(shop.all_are([shop.submit(function="os.system")], JobStatus.FAILED), 5)
    crew.engine.gate.clear()
    job_id = shop.submit()
    until(lambda: job_id in crew.engine.waiting, 5)
    shop.redis.publish(crew.worker.pubsub_channel_name, f'{{"command": "stop-job", "job_id": "{job_id}"}}')
    until(shop.all_are([job_id], JobStatus.STOPPED), 5)
    assert shop.error(job_id) == "stopped on request"
    crew.intake.drain()
    crew.intake.join(5)
    assert not crew.intake.is_alive()


def test_rq_info_counts_the_executions(shop: Shop, hire: Callable[..., Crew]) -> None:
    crew = hire()
    for _ in range(3):
        shop.submit()
    until(lambda: len(crew.engine.waiting) == 3)
    worker = crew.worker
    assert worker.current_execution_count == 3
    assert shop.redis.hget(worker.key, "state") == b"busy"
    crew.engine.gate.set()
    until(lambda: shop.redis.hget(worker.key, "state") == b"idle")
    assert worker.current_execution_count == 0


def test_a_worker_is_known_again_to_a_redis_that_came_back_empty(
    shop: Shop, hire: Callable[..., Crew]
) -> None:
    crew = hire()
    until(lambda: shop.redis.exists(crew.worker.key) == 1)
    shop.redis.flushall()
    until(lambda: shop.redis.sismember("rq:workers", crew.worker.key))
    job_id = shop.submit()
    crew.engine.gate.set()
    until(shop.all_are([job_id], JobStatus.FINISHED))


def test_a_row_whose_job_redis_forgot_is_dropped_and_runs_anew(shop: Shop, hire: Callable[..., Crew]) -> None:
    """An AOF written each second may lose the claim: the job stands in the queue again."""
    crew = hire(renew_s=60.0)
    job_id = shop.submit()
    until(lambda: len(crew.engine.waiting) == 1)
    shop.redis.delete(shop.queue.started_job_registry.key)
    shop.redis.hset(Job.key_for(job_id), "status", "queued")
    shop.redis.rpush(shop.queue.key, job_id)
    until(lambda: crew.metric("movq_leases_lost_total") == 1)
    crew.engine.gate.set()
    until(shop.all_are([job_id], JobStatus.FINISHED))
    shop.assert_at_rest([job_id])
    assert crew.engine.ran == [job_id]


def test_an_outage_of_the_blob_store_is_waited_out(
    shop: Shop, hire: Callable[..., Crew], tmp_path: Path
) -> None:
    """It is not the job's fault, and costs no retry."""
    in_the_way = tmp_path / "images"
    in_the_way.touch()
    crew = hire()
    crew.engine.gate.set()
    job_ids = [shop.submit(GenerateRequest(sampling=SamplingParams(seed=n))) for n in range(3)]
    until(lambda: len(crew.engine.ran) == 3, 10)
    time.sleep(0.5)
    assert shop.all_are(job_ids, JobStatus.STARTED)()
    in_the_way.unlink()
    until(shop.all_are(job_ids, JobStatus.FINISHED), 10)
    assert {shop.job(job_id).retries_left for job_id in job_ids} == {2}
    shop.assert_at_rest(job_ids)


def test_what_waits_for_the_blob_store_can_be_stopped(
    shop: Shop, hire: Callable[..., Crew], tmp_path: Path
) -> None:
    (tmp_path / "images").touch()
    crew = hire()
    crew.engine.gate.set()
    job_id = shop.submit()
    until(lambda: len(crew.engine.ran) == 1, 10)
    send_stop_execution_command(
        shop.redis, job_id, shop.job(job_id).execution_registry.get_execution_ids()[0]
    )
    until(shop.all_are([job_id], JobStatus.STOPPED), 10)


def test_a_stop_that_nobody_heard_is_found_at_the_next_renewal(shop: Shop, hire: Callable[..., Crew]) -> None:
    """A message is lost when its listener is just connecting again; the word in the record is not."""
    hire()
    job_id = shop.submit()
    until(shop.all_are([job_id], JobStatus.STARTED), 10)
    shop.redis.hset(f"rq:job:{job_id}", "stop", 1)
    until(shop.all_are([job_id], JobStatus.STOPPED), 10)
    shop.assert_at_rest([job_id])


@pytest.mark.parametrize("before", ["", "Command # 1 (EVALSHA f379 8 rq:wip) of pipeline caused error: "])
def test_a_redis_that_cannot_write_its_log_is_an_outage(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Its disk is full; the client library puts words of its own before. Chaos fills a disk."""

    def refuse(*_: object, **__: object) -> None:
        raise ResponseError(f"{before}MISCONF Errors writing to the AOF file: No space left on device")

    with bare_worker(redis_url) as worker:
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "execute", refuse)
            with pytest.raises(QueueUnavailable):
                worker.renew({})
        worker.renew({})
