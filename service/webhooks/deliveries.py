"""Deliveries in a queue of their own, and the RQ worker that makes them. The only contact with RQ here.

RQ repeats what failed (`Retry`), keeps what is to be repeated later (its scheduled registry), and takes back
what a worker that died had begun. Its names of functions are never imported: whoever can write to Redis could
choose them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import structlog
from pydantic import ValidationError
from redis import Redis, RedisError
from rq import Queue, Retry, SimpleWorker
from rq.exceptions import DuplicateJobError
from rq.executions import Execution
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.timeouts import TimerDeathPenalty

from service.redis_connections import open_client
from service.webhooks.destination import DestinationRefused
from service.webhooks.sender import Delivery, GivenUp, Sender

QUEUE = "movq.webhooks"
FUNCTION = "movq.webhook"  # interpreted by DeliveryJob, never imported
SERIALIZER = "json"  # never pickle: it runs code for whoever can write to Redis
NO_TIMEOUT = -1  # an attempt has its own
DELIVERED_TTL_S = 24 * 3600  # for so long a job that is handed over again is told once nevertheless
FAILED_TTL_S = 7 * 24 * 3600
WORKER_TTL_S = 20  # RQ looks for abandoned attempts when it has waited for 15 s less
RECONNECT_EVERY_S = 1.0
MAINTENANCE_S = 5
LEASE_BEYOND_TIMEOUT_S = 10  # beyond an attempt's own time, until a worker is taken for dead

log = structlog.get_logger("movq.webhooks")


class DeliveryJob(Job):
    """RQ's record of a delivery, that runs nothing else."""

    sender: Sender  # given by the worker that has taken it
    delivery: Delivery | None = None  # once it has been read
    # RQ would import these names from Redis, too.
    success_callback = failure_callback = stopped_callback = None

    def perform(self) -> None:
        """One attempt. What is in vain for good is not tried again."""
        try:
            self.delivery = self._read()
            self.sender.send(self.delivery)
        except (DestinationRefused, GivenUp):
            self.retries_left = 0
            raise

    @property
    def ids(self) -> dict[str, str]:
        """What each log line about it tells."""
        return self.delivery.ids if self.delivery else {"delivery": self.id}

    def _read(self) -> Delivery:
        if self.func_name != FUNCTION:
            raise GivenUp(f"{self.func_name} is none of the functions that run here")
        try:
            return Delivery.model_validate(self.kwargs)
        except ValidationError as error:  # its text would tell what is in the record
            raise GivenUp("the record is no delivery") from error

    def send_webhooks(self, status: Any, *, exc_string: str | None = None) -> None:
        """None of RQ's own: they would go anywhere."""


class DeliveryQueue(Queue):
    """RQ's queue of deliveries."""

    @classmethod
    def open(cls, redis_url: str) -> DeliveryQueue:
        """The queue, once Redis is there."""
        connection = open_client(redis_url, socket_timeout=None)  # RQ sets one that suits how long it waits
        while not _answers(connection):
            time.sleep(RECONNECT_EVERY_S)
        return cls(QUEUE, connection=connection, serializer=SERIALIZER, job_class=DeliveryJob)

    def put(self, delivery: Delivery, retry_after_s: Sequence[int]) -> None:
        """Enqueue it, once however often it is handed over. `retry_after_s`: pauses before new attempts."""
        with suppress(DuplicateJobError):
            self.enqueue_call(
                FUNCTION,
                kwargs=delivery.model_dump(),
                timeout=NO_TIMEOUT,
                result_ttl=DELIVERED_TTL_S,
                failure_ttl=FAILED_TTL_S,
                description=FUNCTION,
                job_id=delivery.message_id,
                retry=Retry(max=len(retry_after_s), interval=list(retry_after_s)),
                unique=True,
            )


def _answers(connection: Redis) -> bool:
    try:
        return bool(connection.ping())
    except RedisError as error:
        log.warning("waiting for redis", error=str(error))
        return False


class DeliveryWorker(SimpleWorker):
    """RQ's worker, with several attempts at once: one silent receiver must not keep the others waiting."""

    # Never armed, for an attempt has its own time limit; RQ's other one would touch the main thread's alarm.
    death_penalty_class = TimerDeathPenalty

    def __init__(self, queue: DeliveryQueue, sender: Sender, at_once: int, timeout_s: float) -> None:
        super().__init__(
            [queue],
            connection=queue.connection,
            serializer=SERIALIZER,
            job_class=DeliveryJob,
            worker_ttl=WORKER_TTL_S,
            maintenance_interval=MAINTENANCE_S,
            log_job_description=False,
        )
        self.was_asked_to_stop = False
        self._sender = sender
        self._lease_s = int(timeout_s) + LEASE_BEYOND_TIMEOUT_S
        self._free = threading.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, "delivery")

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Seconds after which an attempt that was not ended has lost its worker, and is made again."""
        del job, working_time
        return self._lease_s

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next delivery, once a thread is free for it: none is taken that would have to wait here."""
        self._free.acquire()
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Begin an attempt."""
        assert isinstance(job, DeliveryJob)
        job.sender = self._sender
        self._threads.submit(self._attempt, job, queue, self.prepare_execution(job))

    def _attempt(self, job: DeliveryJob, queue: Queue, execution: Execution) -> None:
        try:
            if self.perform_job(job, queue, execution):
                log.info("delivered", **job.ids)
        except Exception:  # Redis went away meanwhile; the lease runs out and the attempt is made again
            log.exception("an attempt's end could not be written", **job.ids)
        finally:
            self._free.release()

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Say that an attempt failed, in a line."""
        _, error, _ = exc_info
        ids = job.ids if isinstance(job, DeliveryJob) else {"delivery": job.id}
        log.warning("not delivered", **ids, reason=str(error), retries_left=job.retries_left)

    def handle_warm_shutdown_request(self) -> None:
        self.was_asked_to_stop = True

    def teardown(self) -> None:
        """End what is under way first."""
        self._threads.shutdown()
        super().teardown()  # type: ignore[no-untyped-call]


class RetryClock:
    """Puts deliveries back on their queue when it is time to try again.

    RQ's worker would fork a process for it, which outlives ours when that is killed, and keeps the lock.
    """

    def __init__(self, queue: DeliveryQueue) -> None:
        self._scheduler = RQScheduler(
            [queue], queue.connection, logging_level="WARNING", serializer=SERIALIZER
        )
        self._is_closed = False

    def tick(self) -> None:
        """Called about once a second; of several processes one does it. Redis may be away for a while."""
        try:
            if not self._is_closed and self._scheduler.acquire_locks():  # type: ignore[no-untyped-call]
                self._scheduler.enqueue_scheduled_jobs()  # type: ignore[no-untyped-call]
        except RedisError as error:
            log.warning("waiting for redis", error=str(error))

    def close(self) -> None:
        """Let the next process do it at once, instead of when the lock has run out."""
        self._is_closed = True
        with suppress(RedisError):
            self._scheduler.release_locks()  # type: ignore[no-untyped-call]
