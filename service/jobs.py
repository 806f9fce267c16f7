"""JobStore: RQ's own job records, created, read, awaited and cancelled.

The only module of the service that knows Redis and RQ. There is no second job table: what the
service needs beyond RQ's fields is one more field, `images`, in the job's hash.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import redis
import redis.asyncio
from anyio import CancelScope, to_thread
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.command import send_stop_execution_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.registry import CanceledJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.utils import now, str_to_date, utcformat
from rq.worker_registration import get_keys

from movq_core.errors import JobNotFound, QueueUnavailable
from movq_core.protocol import QUEUE_NAME, Request
from service.admission import Admission, Load
from service.failures import failure_sentence
from service.job import Job, Status, images_of, output_of, request_of, status_of
from service.queue_scripts import ENQUEUE, QUEUED_IMAGES, RUNNING_IMAGES
from service.settings import Settings

SERIALIZER = "json"  # never pickle: it runs code for whoever can write to Redis
IMAGES_FIELD = "images"
RESULTS_KEY = "rq:results:{}"  # RQ's stream of a job's results
SOCKET_TIMEOUT_S = 5.0
WAIT_SLICE_S = 1.0  # a cancelled job writes no result, so its status is read again this often
OUTAGE_PAUSE_S = 0.5
DOOR_CONNECTIONS = 16
WAITERS_BESIDE = 64  # several may wait for one job, and jobs that are over are waited for a moment longer
STOP_GRACE_S = 2.0  # a running job is cancelled between two steps
CANCEL_ATTEMPTS = 20
CANCEL_PAUSE_S = 0.05
RATE_WINDOW_S = 60
RATE_JOBS = 64


class JobStore:
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached.

    What is asked once a request, entering and waiting, is asynchronous; RQ is not, so its own calls run in
    threads. Nothing is retried by the client library: a repeated script would enqueue a job twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admission = Admission(settings.max_queue_images)
        options: dict[str, Any] = {
            "socket_timeout": SOCKET_TIMEOUT_S,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "retry": RedisRetry(NoBackoff(), 0),
            "protocol": 2,  # in the third, XREAD answers in another shape
        }
        self._redis = redis.Redis.from_url(settings.redis_url, **options)
        # Who waits for a result holds a connection; who wants in must find one nevertheless, or wait for it.
        waiters = settings.max_queue_images + WAITERS_BESIDE
        self._waiting = redis.asyncio.Redis.from_url(settings.redis_url, max_connections=waiters, **options)
        door = redis.asyncio.BlockingConnectionPool.from_url(
            settings.redis_url, max_connections=DOOR_CONNECTIONS, timeout=SOCKET_TIMEOUT_S, **options
        )
        self._door = redis.asyncio.Redis.from_pool(door)
        self._enter = self._door.register_script(ENQUEUE)
        self._queue = Queue(QUEUE_NAME, connection=self._redis, serializer=SERIALIZER)
        self._started = StartedJobRegistry(queue=self._queue)
        self._finished = FinishedJobRegistry(queue=self._queue)
        self._canceled = CanceledJobRegistry(queue=self._queue)

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._waiting.aclose()
        await self._door.aclose()
        self._redis.close()

    async def submit(self, request: Request) -> Job:
        """Put `request` on the queue; raises QueueFull when it has no room for its images."""
        record, images = self._record_of(request), images_of(request)
        with CancelScope(shield=True):  # whoever asked must learn that it is in, to take it out again
            while not (position := await self._enqueue(record, images)):
                await to_thread.run_sync(self._refuse, images)  # unless there is room by now
        return Job(
            id=record.id,
            status=Status.QUEUED,
            request=request,
            created_at=record.created_at,
            position=position,
        )

    async def get(self, job_id: str) -> Job:
        """The job as it stands; raises JobNotFound."""
        return await to_thread.run_sync(self._get, job_id)

    async def wait(self, job: Job, timeout_s: float) -> Job:
        """The job once it is final, or as it was last seen after `timeout_s` seconds.

        An outage of Redis is waited out: the job was accepted, and the caller knows its id.
        """
        deadline = time.monotonic() + timeout_s
        while not job.is_final and (left_s := deadline - time.monotonic()) > 0:
            slice_s = min(WAIT_SLICE_S, left_s)
            try:
                result = await self._await_result(job.id, slice_s)
                # The result says all of a success; of another end, and of none yet, the record says more.
                job = succeeded(job, result) if result else await self.get(job.id)
            except QueueUnavailable:
                await asyncio.sleep(min(OUTAGE_PAUSE_S, left_s))
        return job

    async def cancel(self, job_id: str) -> Job:
        """Cancel this job alone; a final one is left as it is. Raises JobNotFound.

        A running job stops between two steps; it may still be running in the answer.
        """
        job = await to_thread.run_sync(self._cancel, job_id)
        return await self.wait(job, STOP_GRACE_S)

    async def load(self) -> Load:
        """The jobs and images that are queued and in flight."""
        return await to_thread.run_sync(self._load)

    async def workers(self) -> int:
        """Number of workers on our queue that were heard from lately."""
        return await to_thread.run_sync(self._workers)

    def _record_of(self, request: Request) -> RQJob:
        settings = self._settings
        record = self._queue.create_job(
            request.kind.function,
            kwargs={"request": request.model_dump(mode="json")},
            timeout=settings.job_timeout_s,
            result_ttl=settings.result_ttl_s,
            failure_ttl=settings.failure_ttl_s,
            description=request.kind.function,
            job_id=str(uuid.uuid4()),
            status=JobStatus.QUEUED,
            retry=Retry(max=settings.max_retries) if settings.max_retries else None,
        )
        record.enqueued_at = now()
        return record

    async def _enqueue(self, record: RQJob, images: int) -> int:
        """The job's place in the queue; 0 when there is no room for it."""
        fields = {**record.to_dict(), IMAGES_FIELD: images}
        keys = [self._queue.key, self._started.key, record.key, Queue.redis_queues_keys]
        arguments: list[Any] = [images, self._settings.max_queue_images, record.id]
        arguments += [part for pair in fields.items() for part in pair]
        with _outage_told():
            return int(await self._enter(keys, arguments))

    def _refuse(self, images: int) -> None:
        self._admission.check(images, self._load(), self._images_per_s)

    def _fetch(self, job_id: str) -> RQJob:
        try:
            return RQJob.fetch(job_id, connection=self._redis, serializer=SERIALIZER)
        except NoSuchJobError as error:
            raise JobNotFound(f"There is no job {job_id}, or its result has expired.") from error

    def _get(self, job_id: str) -> Job:
        with _outage_told():
            record = self._fetch(job_id)
            status = status_of(record.get_status(refresh=False).value)
            position = self._queue.get_job_position(record.id) if status is Status.QUEUED else None
            ended = status in (Status.SUCCEEDED, Status.FAILED)
            result = record.latest_result() if ended else None
        return Job(
            id=record.id,
            status=status,
            request=request_of(record.id, record.kwargs),
            created_at=record.created_at,
            position=None if position is None else position + 1,
            started_at=record.started_at,
            finished_at=record.ended_at,
            output=output_of(result.return_value if result else None) if status is Status.SUCCEEDED else None,
            error=failure_sentence(result.exc_string if result else None)
            if status is Status.FAILED
            else None,
        )

    async def _await_result(self, job_id: str, timeout_s: float) -> Result | None:
        """What the job has returned, once it has; None after `timeout_s` seconds, or without success."""
        with _outage_told():
            block_ms = max(1, int(timeout_s * 1000))
            key = RESULTS_KEY.format(job_id)
            answer: Any = await self._waiting.xread({key: "0-0"}, count=1, block=block_ms)
        for _, entries in answer:
            for entry_id, fields in entries:
                result = Result.restore(job_id, entry_id.decode(), fields, self._redis, SERIALIZER)
                return result if result.type is Result.Type.SUCCESSFUL else None
        return None

    def _cancel(self, job_id: str) -> Job:
        """Ask until the job is final or its worker has been told to stop it.

        A job may be between two places: taken from the list, and not yet marked as started.
        """
        with _outage_told():
            for _ in range(CANCEL_ATTEMPTS):
                record = self._fetch(job_id)
                status = status_of(record.get_status(refresh=False).value)
                if status is Status.QUEUED and self._cancel_queued(record):
                    break
                if status is Status.RUNNING and self._stop_running(record):
                    break
                if status not in (Status.QUEUED, Status.RUNNING):
                    break
                time.sleep(CANCEL_PAUSE_S)
        return self._get(job_id)

    def _cancel_queued(self, record: RQJob) -> bool:
        """Mark a waiting job as cancelled; whether it was still in the list, so that no worker has it.

        WATCH keeps a job that starts or ends at this very moment from being marked.
        """
        ended_at = now()
        with self._redis.pipeline() as pipeline:
            try:
                pipeline.watch(record.key)  # type: ignore[no-untyped-call]
                if pipeline.hget(record.key, "status") != JobStatus.QUEUED.encode():
                    return False
                pipeline.multi()
                pipeline.lrem(self._queue.key, 1, record.id)
                record.cancel(pipeline=pipeline)
                pipeline.hset(record.key, "ended_at", utcformat(ended_at))
                pipeline.expire(record.key, self._settings.result_ttl_s)
                # RQ never empties this registry; its scores are the times of cancelling.
                horizon = ended_at.timestamp() - self._settings.result_ttl_s
                pipeline.zremrangebyscore(self._canceled.key, 0, horizon)
                return bool(pipeline.execute()[0])
            except (redis.WatchError, InvalidJobOperation):
                return False

    def _stop_running(self, record: RQJob) -> bool:
        """Tell each worker that runs this job to stop it; whether there was any to tell."""
        told = False
        for execution_id in record.execution_registry.get_execution_ids():
            try:
                send_stop_execution_command(self._redis, record.id, execution_id)
                told = True
            except InvalidJobOperation:  # it ended between the two reads
                continue
        return told

    def _load(self) -> Load:
        with _outage_told(), self._redis.pipeline() as pipeline:
            pipeline.sort(self._queue.key, by="nosort", get=[QUEUED_IMAGES])
            pipeline.sort(self._started.key, by="nosort", get=[RUNNING_IMAGES])
            queued, running = pipeline.execute()
        return Load(
            queued_jobs=len(queued),
            queued_images=sum(int(images or 1) for images in queued),
            running_jobs=len(running),
            running_images=sum(int(images or 1) for images in running),
        )

    def _count_images(self, job_ids: set[str]) -> int:
        """Images of these jobs; a job that somebody else enqueued counts as one."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(RQJob.key_for(job_id), IMAGES_FIELD)
            return sum(int(images or 1) for images in pipeline.execute())

    def _images_per_s(self) -> float:
        """Rate of the jobs that finished within the last minute; 0 if there is none.

        RQ's registry of finished jobs is scored by expiry, which is a fixed time after finishing.
        """
        with _outage_told():
            horizon = time.time() + self._settings.result_ttl_s - RATE_WINDOW_S
            recent = self._redis.zrange(
                self._finished.key, "+inf", horizon, desc=True, byscore=True, offset=0, num=RATE_JOBS
            )
            if not recent:
                return 0.0
            job_ids = [entry.decode() for entry in cast(list[bytes], recent)]
            oldest = self._redis.zscore(self._finished.key, job_ids[-1]) or horizon
            images = self._count_images(set(job_ids))
        elapsed_s = time.time() + self._settings.result_ttl_s - oldest
        return images / max(1.0, elapsed_s)

    def _workers(self) -> int:
        horizon = time.time() - self._settings.worker_silence_s
        with _outage_told(), self._redis.pipeline(transaction=False) as pipeline:
            for key in get_keys(queue=self._queue):
                pipeline.hmget(key, "last_heartbeat", "death")
            records = pipeline.execute()
        return sum(
            1 for heard, death in records if heard and not death and str_to_date(heard).timestamp() > horizon
        )


def succeeded(job: Job, result: Result) -> Job:
    """`job` once it has returned `result`."""
    return replace(
        job,
        status=Status.SUCCEEDED,
        position=None,
        started_at=result.execution_started_at,
        finished_at=result.execution_ended_at,
        output=output_of(result.return_value),
    )


@contextmanager
def _outage_told() -> Iterator[None]:
    """Say in our words that Redis is away, is loading, or refuses writes."""
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(
            "The queue cannot be reached; nothing was changed. Try again shortly."
        ) from error
