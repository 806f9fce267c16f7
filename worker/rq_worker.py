"""RQWorker: the only file of the worker that knows Redis and RQ.

One worker holds many executions at once. Each job it has taken is a `Claim`, owned for as long as
its lease is renewed; every way to end one starts with a fence, so that a worker whose lease was lost
(it was stopped, or Redis was away) cannot finish a job that runs elsewhere by now.

Contact with RQ's private parts is kept here, and `tests/worker/test_rq_worker_contract.py` holds
their signatures: RQ 3.0 is pinned.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from queue import SimpleQueue
from typing import Any

import structlog
from pydantic import ValidationError
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from rq import Queue
from rq.command import parse_payload
from rq.defaults import RQ_KEY_PREFIX
from rq.exceptions import DequeueTimeout, DeserializationError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now
from rq.worker import BaseWorker, WorkerStatus
from rq.worker_registration import clean_worker_registry, register

from movq_core.errors import InvalidRequest, QueueUnavailable
from movq_core.protocol import QUEUE_NAME, JobKind, JobOutput, Request, parse_request
from worker import queue_scripts

WORKER_TTL_S = 30  # a worker that is silent for this and a minute is gone from `rq info`
FINISH_LEASE_S = 60  # the fence's extension: longer than any commit, or it would protect nothing
REAP_BATCH = 100
_OUTAGES = (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError)
_FUNCTIONS = {kind.function: kind for kind in JobKind}

log = structlog.get_logger("movq.rq_worker")


class PlainPipeline(Pipeline):
    """A pipeline that calls an outage an outage.

    redis-py raises WatchError when the connection fails while a key is watched. RQ answers that by
    running its transaction again, with no fence: where only the answer was lost, a job would finish twice.
    """

    def _disconnect_raise_on_watching(self, conn: Any, *_: Any, **__: Any) -> None:
        conn.disconnect()
        self.watching = False  # the watch died with the connection

    _disconnect_reset_raise_on_watching = _disconnect_raise_on_watching


class PlainRedis(Redis):
    """A client whose every pipeline is plain."""

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        return PlainPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class Lease(StrEnum):
    """Whose a claimed job is."""

    OWNED = "owned"
    LOST = "lost"  # another worker's, or already ended elsewhere
    CANCELED = "canceled"  # its caller wants it no more


@dataclass(frozen=True, eq=False)
class Claim:
    """A job this worker has taken. `lost`: a worker died while it had this job."""

    job: Job
    execution: Execution
    lost: bool = False

    @property
    def job_id(self) -> str:
        return str(self.job.id)

    @property
    def timeout_s(self) -> float | None:
        """Seconds that the job may take; None: no limit."""
        timeout = self.job.timeout
        return float(timeout) if timeout and timeout > 0 else None

    @property
    def waited_s(self) -> float:
        """Seconds the job stood in the queue."""
        enqueued_at = self.job.enqueued_at
        return (now() - enqueued_at).total_seconds() if enqueued_at else 0.0

    @property
    def has_retries(self) -> bool:
        return bool(self.job.should_retry)

    @property
    def must_run_alone(self) -> bool:
        """Whether this is the last try of a job that may be what kills workers.

        Beside others it would take them with it: they have shared its every try so far.
        """
        return self.lost and not self.has_retries

    def request(self) -> Request:
        """What the job asks for; raises InvalidRequest when it is nothing of ours."""
        try:
            function, kwargs = self.job.func_name, self.job.kwargs
        except DeserializationError as error:
            raise InvalidRequest("the job's data is not JSON") from error
        if function not in _FUNCTIONS:
            raise InvalidRequest(f"unknown function {function!r}: allowed are {', '.join(_FUNCTIONS)}")
        try:
            request = parse_request(kwargs.get("request"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"the job's request is not valid: {where}: {first['msg']}") from error
        if request.kind != _FUNCTIONS[function]:
            raise InvalidRequest(f"{function} was given a request of kind {request.kind.value}")
        return request


class RQWorker(BaseWorker):
    """Takes, renews, finishes, fails, stops and gives back jobs of the one queue.

    All methods but `handle_payload` belong to one thread; those that talk to Redis raise
    QueueUnavailable while it is away, and may then be called again.
    """

    def __init__(self, connection: Redis, *, lease_s: int) -> None:
        # A name that was never used: RQ refuses the name of a worker that was killed a moment ago.
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        super().__init__(
            [QUEUE_NAME], name, connection=connection, serializer="json", worker_ttl=WORKER_TTL_S
        )
        self.queue: Queue = self.queues[0]
        self.lease_s = lease_s
        self.stops: SimpleQueue[str] = SimpleQueue()  # job ids, put by the pub/sub thread
        self.suspended = False
        self._doubtful: Claim | None = None  # claimed by a transaction whose answer never came
        self._stranded_since_s: dict[str, float] = {}
        self._wip_key: str = self.queue.started_job_registry.key
        self._extend = connection.register_script(queue_scripts.EXTEND)
        self._give_back = connection.register_script(queue_scripts.GIVE_BACK)
        self._reap = connection.register_script(queue_scripts.REAP)
        self._return_stranded = connection.register_script(queue_scripts.RETURN_STRANDED)

    @property
    def connection_timeout(self) -> int:
        """Seconds until a silent Redis counts as away; we never block longer than one second."""
        return 5

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002
        """A short lease that is renewed, not the whole timeout: a crash is seen in seconds."""
        return self.lease_s

    # -- birth, life, death ---------------------------------------------------------------------

    def open(self) -> None:
        """Register, and listen for commands."""
        with _outages():
            self.register_birth()  # type: ignore[no-untyped-call]
            self.subscribe()
            self.set_state(WorkerStatus.IDLE)

    def close(self) -> None:
        """Unregister, and let the connections go."""
        with _outages():
            try:
                self.register_death()  # type: ignore[no-untyped-call]
            finally:
                self.unsubscribe()  # type: ignore[no-untyped-call]
                self.connection.close()

    def renew(self, claims: Sequence[Claim]) -> list[Lease]:
        """Renew the worker's and every claim's lease in one pipeline; whose each claim is now."""
        self.last_heartbeat = now()
        self.set_busy(bool(claims))
        with _outages(), self.connection.pipeline(transaction=False) as pipeline:
            # Written whole each time, so that a Redis that came back empty knows us again.
            pipeline.hset(self.key, mapping={**self.serialize(), "state": self.get_state()})
            register(self, pipeline)
            self.heartbeat(pipeline=pipeline)
            pipeline.exists(WORKERS_SUSPENDED)
            before = len(pipeline)
            for claim in (*claims, *([self._doubtful] if self._doubtful else [])):
                self._extend_claim(claim, self.lease_s, pipeline)
            results = pipeline.execute()
        self.suspended = bool(results[before - 1])
        return [Lease(result.decode()) for result in results[before : before + len(claims)]]

    def set_busy(self, busy: bool) -> None:
        """The state that the next renewal writes, for `rq info`."""
        self._state = WorkerStatus.BUSY if busy else WorkerStatus.IDLE

    # -- taking ---------------------------------------------------------------------------------

    def take(self, block_s: int | None = None) -> Claim | None:
        """The queue's first job, claimed; None when there is none (after `block_s`, when given)."""
        with _outages():
            if self._doubtful:
                return self._resolve_doubt(self._doubtful)
            try:
                found = Queue.dequeue_any(
                    [self.queue], block_s, self.connection, Job, serializer=self.serializer
                )
            except DequeueTimeout:
                return None
            except (ResponseError, ValueError, TypeError, KeyError, AttributeError) as error:
                self._discard_unreadable(error)
                return None
            return self._claim(found[0]) if found else None

    def _claim(self, job: Job) -> Claim | None:
        """Own a job that was just moved to the intermediate list, in one transaction.

        RQ's own prepare_execution and prepare_job_execution are two transactions that overwrite
        CANCELED by STARTED. WATCH makes a cancel, or a reaper that put the id back because we
        were slow, break ours.
        """
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(job.key)  # type: ignore[no-untyped-call]
                    status, lost = pipeline.hmget(job.key, "status", "lost")
                    ours = pipeline.lpos(self.queue.intermediate_queue_key, job.id) is not None
                    pipeline.multi()
                    pipeline.lrem(self.queue.intermediate_queue_key, 1, job.id)
                    if status != JobStatus.QUEUED.value.encode() or not ours:
                        pipeline.execute()
                        return None
                    execution = Execution.create(job, self.lease_s, pipeline, worker_name=self.name)
                    job.prepare_for_execution(self.name, pipeline=pipeline)
                    pipeline.persist(job.key)
                    self.set_state(WorkerStatus.BUSY, pipeline=pipeline)
                    claim = self._doubtful = Claim(job, execution, lost=lost is not None)
                    pipeline.execute()
                except WatchError:
                    self._doubtful = None
                    continue
                self._doubtful = None
                return claim

    def _resolve_doubt(self, claim: Claim) -> Claim | None:
        """The claim, if Redis carried out the transaction that it could not answer."""
        owned = self._extend_claim(claim, self.lease_s) == Lease.OWNED.value.encode()
        if not owned:
            self._put_back(claim.job_id)
        self._doubtful = None
        return claim if owned else None

    def _discard_unreadable(self, error: Exception) -> None:
        """Drop an id whose record is not a job's; without this it would come back for ever."""
        job_id = getattr(error, "job_id", None)
        if job_id is None or isinstance(error, _OUTAGES):
            raise error
        log.error("a record that is not a job was discarded", job_id=job_id, error=str(error))
        self.connection.lrem(self.queue.intermediate_queue_key, 1, job_id)

    # -- ending ---------------------------------------------------------------------------------

    def succeed(self, claim: Claim, output: JobOutput) -> Lease:
        """Finish the job with its output, if it is still ours."""
        lease = self._fence(claim)
        if lease is Lease.OWNED:
            with _outages():
                self._finalize_success(claim.job, self.queue, claim.execution, output.model_dump(mode="json"))
        return lease

    def fail(self, claim: Claim, message: str, *, retry: bool) -> Lease:
        """Fail the job, or let it run again when `retry` and it has retries left."""
        claim.job.retry_intervals = None  # a delayed retry would wait for a scheduler we do not run
        if not retry:
            claim.job.retries_left = 0
        lease = self._fence(claim)
        if lease is Lease.OWNED:
            self._record_failure(claim.job, claim.execution, message)
        return lease

    def stop(self, claim: Claim) -> Lease:
        """End the job as STOPPED, as its caller asked."""
        lease = self._fence(claim)
        if lease is Lease.OWNED:
            self._stopped_job_id = claim.job_id
            self._record_failure(claim.job, claim.execution, "stopped on request")
        return lease

    def forget(self, claim: Claim) -> None:
        """Take away what is left of an execution that is no longer ours."""
        with _outages(), self.connection.pipeline() as pipeline:
            claim.execution.delete(claim.job, pipeline)
            pipeline.execute()

    def give_back(self, claim: Claim) -> bool:
        """Put a job back to the queue's head, for another worker, without spending a retry."""
        execution = claim.execution
        keys = [self._wip_key, self.queue.key, claim.job.key, execution.key, _executions_key(claim.job_id)]
        with _outages():
            return bool(self._give_back(keys, [execution.composite_key, execution.id, claim.job_id]))

    def _fence(self, claim: Claim) -> Lease:
        """Whose the claim is; ours is extended past the commit that follows.

        Not claimed by removal: a crash right after that would strand the job.
        """
        with _outages():
            answer = self._extend_claim(claim, FINISH_LEASE_S)
        lease = Lease(answer.decode())
        if lease is not Lease.OWNED:
            self.forget(claim)
        return lease

    def _extend_claim(self, claim: Claim, lease_s: int, pipeline: Pipeline | None = None) -> Any:
        execution = claim.execution
        keys = [self._wip_key, claim.job.key, execution.key, _executions_key(claim.job_id)]
        return self._extend(keys, [execution.composite_key, execution.id, lease_s], client=pipeline)

    def _record_failure(self, job: Job, execution: Execution, message: str) -> None:
        job.ended_at = now()
        with _outages():
            # Logs and goes on when Redis fails under it: the lease then runs out, and the job again.
            self.handle_job_failure(job, self.queue, exc_string=message, execution=execution)

    # -- other workers' losses ------------------------------------------------------------------

    def reap(self) -> dict[str, int]:
        """Put back the jobs of workers that died; how many by reason. Safe beside other reapers."""
        execution_id = uuid.uuid4().hex
        prefixes = [Job.redis_job_namespace_prefix, f"{RQ_KEY_PREFIX}:execution:", _executions_key("")]
        with _outages():
            back, exhausted = self._reap(
                [self._wip_key, self.queue.key], [*prefixes, execution_id, FINISH_LEASE_S, REAP_BATCH]
            )
            stranded = self._reap_stranded()
            for job_id in exhausted:
                self._fail_exhausted(job_id.decode(), execution_id)
            self.queue.finished_job_registry.cleanup()
            self.queue.failed_job_registry.cleanup()
            clean_worker_registry(self.queue)
        return {"lease": len(back), "exhausted": len(exhausted), "stranded": stranded}

    def _fail_exhausted(self, job_id: str, execution_id: str) -> None:
        job = Job.fetch(job_id, self.connection, self.serializer)
        execution = Execution(execution_id, job_id, self.connection)
        self._record_failure(
            job, execution, "the worker was lost while it ran this job, and no retry is left"
        )

    def _reap_stranded(self) -> int:
        """Put back ids that stay in the intermediate list for longer than a lease."""
        seen_s = time.monotonic()
        ids = self.queue.intermediate_queue.get_job_ids()
        since = {job_id: self._stranded_since_s.get(job_id, seen_s) for job_id in ids}
        self._stranded_since_s = since
        return sum(self._put_back(ids_due) for ids_due in _older(since, seen_s - self.lease_s))

    def _put_back(self, job_id: str) -> int:
        keys = [self.queue.intermediate_queue_key, self.queue.key, Job.key_for(job_id)]
        return int(self._return_stranded(keys, [job_id]))

    # -- commands, on the pub/sub thread --------------------------------------------------------

    def subscribe(self) -> None:
        """Listen for commands; wakes often, so that `unsubscribe` need not wait for Redis."""
        self.pubsub = self.connection.pubsub()  # type: ignore[no-untyped-call]
        self.pubsub.subscribe(**{self.pubsub_channel_name: self.handle_payload})
        self.pubsub_thread = self.pubsub.run_in_thread(  # type: ignore[assignment]  # RQ says None
            sleep_time=0.25, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def handle_payload(self, message: Any) -> None:
        """Note which job shall stop; the owning thread acts.

        RQ's own handler compares a stop with the first execution only, and marks it by one
        attribute: with many executions the wrong job would end as stopped.
        """
        try:
            payload = parse_payload(message)
            command, job_id = payload["command"], str(payload.get("job_id", ""))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            log.warning("a command was not understood", error=str(error))
            return
        if command in ("stop-execution", "stop-job"):
            self.stops.put(job_id)
        elif command == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:  # noqa: ARG002
        """Reconnect for ever, after a time-out too: a dead listener would lose every later stop."""
        if not isinstance(exc, (*_OUTAGES, OSError)):
            raise exc
        time.sleep(1.0)


def connect(url: str, *, lease_s: int) -> RQWorker:
    """A worker on the Redis at `url`; raises QueueUnavailable.

    The client never repeats a command by itself: a repeated EXEC could finish a job twice.
    """
    connection = PlainRedis.from_url(
        url, socket_timeout=5, socket_connect_timeout=5, retry=Retry(NoBackoff(), 0)
    )
    with _outages():
        connection.ping()
        return RQWorker(connection, lease_s=lease_s)


@contextmanager
def _outages() -> Iterator[None]:
    """Redis away or refusing writes, in our own words; everything else is a bug and passes."""
    try:
        yield
    except _OUTAGES as error:
        raise QueueUnavailable(f"Redis: {error}") from error
    except ResponseError as error:
        if not str(error).startswith("MISCONF"):  # its disk is full, mostly
            raise
        raise QueueUnavailable(f"Redis: {error}") from error


def _executions_key(job_id: str) -> str:
    return f"{RQ_KEY_PREFIX}:executions:{job_id}"


def _older(since: dict[str, float], limit_s: float) -> Iterable[str]:
    return [job_id for job_id, first_s in since.items() if first_s < limit_s]
