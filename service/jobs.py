"""JobStore: RQ's own job records, created, read, listed, awaited and cancelled.

It, `rq_records` and `events` alone know Redis and RQ. There is no second job table: what the service needs
beyond RQ's fields stands beside them in the job's hash (`images`, `steps`, and where set `owner`,
`deadline_s`, `deadline_at`, `webhook_url`, `request_id`, `traceparent`, `progress`); a job's model and
priority are told by its queue's name.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from anyio import CancelScope, to_thread
from rq import Queue, Retry
from rq.command import send_stop_execution_command
from rq.exceptions import InvalidJobOperation
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.registry import CanceledJobRegistry
from rq.results import Result
from rq.utils import now, str_to_date, utcformat
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from movq_core.errors import IdempotencyConflict, JobNotFound, QueueUnavailable, TooManyRequests
from movq_core.protocol import WORKER_RECORD_S, Priority, Request, queue_name
from service.admission import Admission, Count, Load
from service.job import Job, Status, Submission, Submitted, images_of, steps_of
from service.pace import PACE_RUNS, InFlight, images_per_s, steps_an_image
from service.queue_scripts import CANCEL, ENQUEUE, LOAD, STOP
from service.redis_connections import open_async_client, open_client, outage_told
from service.redis_state import RedisState
from service.rq_records import (
    SERIALIZER,
    Keys,
    Record,
    job_of,
    moment,
    queue_key,
    record_of,
    result_of,
    results_key,
    run_of,
    succeeded,
)
from service.settings import Settings

WAIT_SLICE_S = 1.0  # a cancelled job writes no result, so its status is read again this often
OUTAGE_PAUSE_S = 0.5
DOOR_CONNECTIONS = 16
WAITERS_BESIDE = 64  # several may wait for one job, and jobs that are over are waited for a moment longer
STOP_GRACE_S = 2.0  # a running job is cancelled between two steps
CANCEL_ATTEMPTS = 20
CANCEL_PAUSE_S = 0.05
RATE_WINDOW_S = 3600
LOAD_KEPT_S = 1.0  # an estimated wait goes by a load that is no older
SUBMITTER_WATCHES_S = 10  # until whoever asked to watch has to be there
LIST_CHUNK = 100


class JobStore:
    """Jobs in Redis. Every method raises QueueUnavailable when Redis cannot be reached.

    `owner` is who asks: another's job is not found. None is nobody in particular, as where there are no API
    keys: all jobs are there to see. RQ's own calls are not asynchronous and run in threads. Nothing is
    retried by the client library: a repeated script would enqueue a job twice.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admission = Admission(settings.max_queue_images)
        self._redis = open_client(settings.redis_url)
        # Who waits for a result holds a connection; who wants in must find one nevertheless, or wait for it.
        waiters = settings.max_queue_images + WAITERS_BESIDE
        self._waiting = open_async_client(settings.redis_url, waiters)
        self._door = open_async_client(settings.redis_url, DOOR_CONNECTIONS)
        self._enter = self._door.register_script(ENQUEUE)
        self._take_out = self._door.register_script(CANCEL)
        self._count = self._door.register_script(LOAD)
        self._leave_word = self._door.register_script(STOP)
        self._loads: dict[str, tuple[float, Load]] = {}  # by model: when it was counted, and what

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._waiting.aclose()
        await self._door.aclose()
        self._redis.close()

    # -- submitting -----------------------------------------------------------------------------

    async def submit(self, request: Request, submission: Submission) -> Submitted:
        """Put `request` on its queue, or find the job that its Idempotency-Key has made before.

        Raises QueueFull, TooManyRequests or IdempotencyConflict.
        """
        record = self._record_of(request, submission)
        while True:
            with CancelScope(shield=True):  # whoever asked must learn that it is in, to take it out again
                submitted = await self._try(record, request, submission)
            if submitted:
                return submitted

    async def _try(self, record: RQJob, request: Request, submission: Submission) -> Submitted | None:
        """None when it has to be tried again: there is room by now, or the known job has just expired."""
        outcome, *told = await self._enqueue(record, request, submission)
        match outcome:
            case b"queued":
                return await self._entered(record, request, submission, *told)
            case b"known":
                with suppress(JobNotFound):
                    return Submitted(await self.get(told[0].decode()), is_new=False)
            case b"conflict":
                raise IdempotencyConflict(
                    "This Idempotency-Key was used before, with another request; give a new one a new key."
                )
            case b"open":
                await self._refuse_open(submission, *told)
            case b"full":
                self._admission.check(images_of(request), await self.load(submission.model))
        return None

    def _record_of(self, request: Request, submission: Submission) -> RQJob:
        settings = self._settings
        name = queue_name(submission.model, submission.priority)
        record = Queue(name, connection=self._redis, serializer=SERIALIZER).create_job(
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

    async def _enqueue(self, record: RQJob, request: Request, submission: Submission) -> list[Any]:
        """What ENQUEUE tells."""
        keys, owner, idempotency = Keys(submission.model), request.owner or "-", submission.idempotency
        ours = {
            "images": images_of(request),
            "steps": steps_of(request),
            "owner": request.owner,
            "deadline_s": submission.deadline_s,
            "webhook_url": submission.webhook_url,
            "request_id": submission.request_id,
            "traceparent": submission.traceparent,
        }
        fields = record.to_dict() | {name: value for name, value in ours.items() if value is not None}
        hashed = hashlib.sha256(idempotency.key.encode()).hexdigest() if idempotency else ""
        arguments = [
            record.id,
            images_of(request),
            self._settings.max_queue_images,
            _or_empty(submission.deadline_s),
            _or_empty(submission.max_open),
            idempotency.fingerprint if idempotency else "",
            SUBMITTER_WATCHES_S if submission.watched else "",
            *(part for pair in fields.items() for part in pair),
        ]
        places = [
            queue_key(record.origin),
            record.key,
            Queue.redis_queues_keys,
            f"movq:jobs:{owner}",
            f"movq:open:{owner}",
            f"movq:idempotency:{owner}:{hashed}",
        ]
        with outage_told():
            told: list[Any] = await self._enter([*places, *keys.queues, *keys.started], arguments)
        return told

    async def _entered(
        self, record: RQJob, request: Request, submission: Submission, position: int, deadline_at: bytes
    ) -> Submitted:
        job = Job(
            id=record.id,
            status=Status.QUEUED,
            request=request,
            created_at=record.created_at,
            model=submission.model,
            priority=submission.priority,
            position=position,
            estimated_wait_s=await self._estimated_wait_s(submission.model, submission.priority, position),
            deadline_at=moment(float(deadline_at)) if deadline_at else None,
            webhook_url=submission.webhook_url,
            owner=request.owner,
        )
        return Submitted(job, is_new=True)

    async def _refuse_open(self, submission: Submission, open_jobs: int) -> None:
        load = await self.load(submission.model)
        raise TooManyRequests(
            f"{open_jobs} of your jobs are queued or running, and at most {submission.max_open} may be.",
            retry_after_s=load.retry_after_s(1),
        )

    # -- reading --------------------------------------------------------------------------------

    async def get(self, job_id: str, owner: str | None = None) -> Job:
        """The job as it stands; raises JobNotFound."""
        with outage_told():
            record = record_of(job_id, await self._door.hgetall(RQJob.key_for(job_id)), self._redis)
            if record is None or (owner is not None and record.text("owner") != owner):
                raise JobNotFound(f"There is no job {job_id}, or its result has expired.")
            (job,) = await self._jobs([record])
        if job is None:
            raise JobNotFound(f"Job {job_id} is none of this service's, or its result has expired.")
        return job

    async def list(self, owner: str | None, limit: int, status: Status | None = None) -> Sequence[Job]:
        """The last jobs that `owner` made, newest first; of the last thousand."""
        jobs: deque[Job] = deque()  # `list` is this method here
        with outage_told():
            ids: Any = await self._door.zrevrange(f"movq:jobs:{owner or '-'}", 0, -1)
            for first in range(0, len(ids), LIST_CHUNK):
                records = await self._records(ids[first : first + LIST_CHUNK])
                wanted = [record for record in records if status in (None, record.status)]
                jobs.extend(job for job in await self._jobs(wanted[: limit - len(jobs)]) if job)
                if len(jobs) >= limit:
                    break
        return tuple(jobs)

    async def _records(self, job_ids: Sequence[bytes]) -> Sequence[Record]:
        """Those of these jobs that have not expired."""
        async with self._door.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hgetall(RQJob.key_for(job_id.decode()))
            found = await pipeline.execute()
        records = [record_of(i.decode(), f, self._redis) for i, f in zip(job_ids, found, strict=True)]
        return [record for record in records if record]

    async def _jobs(self, records: Sequence[Record]) -> Sequence[Job | None]:
        """Each with its place in its queue, or with its result; None for one whose result has expired."""
        async with self._door.pipeline(transaction=False) as pipeline:
            for record in records:
                if record.status is Status.QUEUED:
                    pipeline.lpos(queue_key(record.rq.origin), record.rq.id)
                else:
                    pipeline.xrevrange(results_key(record.rq.id), count=1)
            found = await pipeline.execute()
        return [await self._job(record, more) for record, more in zip(records, found, strict=True)]

    async def _job(self, record: Record, more: Any) -> Job | None:
        is_queued = record.status is Status.QUEUED
        position = more + 1 if is_queued and more is not None else None
        wait_s = await self._estimated_wait_s(record.model, record.priority, position)
        result = None if is_queued else result_of(record.rq.id, more, self._redis)
        try:
            return job_of(record, position, wait_s, result)
        except JobNotFound:
            return None

    # -- waiting and cancelling -----------------------------------------------------------------

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

    async def _await_result(self, job_id: str, timeout_s: float) -> Result | None:
        """What the job has returned, once it has; None after `timeout_s` seconds, or without success."""
        with outage_told():
            block_ms = max(1, int(timeout_s * 1000))
            answer: Any = await self._waiting.xread({results_key(job_id): "0-0"}, count=1, block=block_ms)
        for _, entries in answer:
            result = result_of(job_id, entries, self._redis)
            return result if result and result.type is Result.Type.SUCCESSFUL else None
        return None

    async def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Cancel this job alone; a final one is left as it is. Raises JobNotFound.

        A running job stops between two steps; it may still be running in the answer. A job may be between
        two places, taken from the list by RQ's own means and not yet marked as started: then we ask again.
        """
        for _ in range(CANCEL_ATTEMPTS):
            job = await self.get(job_id, owner)
            with outage_told():
                if job.is_final:
                    return job
                if job.status is Status.QUEUED and await self._cancel_queued(job):
                    break
                if job.status is Status.RUNNING and await self._leave_word([RQJob.key_for(job_id)]):
                    await to_thread.run_sync(self._stop_running, job_id)
                    break
            await asyncio.sleep(CANCEL_PAUSE_S)
        return await self.wait(await self.get(job_id), STOP_GRACE_S)

    async def _cancel_queued(self, job: Job) -> bool:
        """Whether the job waited still, and waits no more."""
        name = queue_name(job.model, job.priority)
        canceled = CanceledJobRegistry.key_template.format(name)
        keys = [queue_key(name), RQJob.key_for(job.id), canceled]
        return bool(await self._take_out(keys, [job.id, utcformat(now()), self._settings.result_ttl_s]))

    def _stop_running(self, job_id: str) -> None:
        """Tell each worker that runs this job to stop it now; who does not hear it finds the word left."""
        for execution_id in RQJob(job_id, self._redis).execution_registry.get_execution_ids():
            with suppress(InvalidJobOperation):  # it ended between the two reads
                send_stop_execution_command(self._redis, job_id, execution_id)

    # -- the house ------------------------------------------------------------------------------

    async def load(self, model: str) -> Load:
        """The jobs and images of a bundle that are queued and in flight, and how fast they leave."""
        keys = Keys(model)
        with outage_told():
            told = await self._count(
                [*keys.queues, *keys.started, *keys.finished],
                [self._settings.result_ttl_s, RATE_WINDOW_S, PACE_RUNS],
            )
        queued = {priority: Count(*told[2 * i : 2 * i + 2]) for i, priority in enumerate(Priority)}
        in_flight = [InFlight(int(images), float(age_s), int(steps)) for images, age_s, steps in told[6]]
        runs = [run for fields in told[7] if (run := run_of(*fields))]
        load = Load(queued, in_flight, images_per_s(runs), steps_an_image(runs))
        self._loads[model] = time.monotonic(), load
        return load

    async def oldest_s(self, model: str) -> Mapping[Priority, float]:
        """Seconds since the first of each queue of a bundle was enqueued; 0 where nobody waits."""
        with outage_told():
            async with self._door.pipeline(transaction=False) as pipeline:
                for key in Keys(model).queues:
                    pipeline.lindex(key, 0)
                first = await pipeline.execute()
                for job_id in first:
                    pipeline.hget(RQJob.key_for(job_id.decode() if job_id else ""), "enqueued_at")
                enqueued = await pipeline.execute()
        ages = [(now() - str_to_date(moment)).total_seconds() if moment else 0.0 for moment in enqueued]
        return dict(zip(Priority, ages, strict=True))

    async def redis_state(self) -> RedisState:
        """How Redis itself is."""
        with outage_told():
            return RedisState.of(await self._door.info())

    async def _estimated_wait_s(self, model: str, priority: Priority, position: int | None) -> float | None:
        if position is None:
            return None
        counted_s, load = self._loads.get(model, (0.0, Load()))
        if time.monotonic() - counted_s > LOAD_KEPT_S:
            try:
                load = await self.load(model)
            except QueueUnavailable:  # what it is asked for has been done by now, and is not undone
                return None
        return load.estimated_wait_s(priority, position)

    async def workers(self, model: str) -> int:
        """Number of workers of a bundle that were heard from lately, by Redis' clock: theirs may be wrong."""
        at_least_s = WORKER_RECORD_S - self._settings.worker_silence_s
        name = queue_name(model, Priority.NORMAL)  # each listens to all three
        with outage_told():
            keys: Any = await self._door.smembers(WORKERS_BY_QUEUE_KEY % name)
            async with self._door.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hexists(key, "death")
                    pipeline.pttl(key)
                told = await pipeline.execute()
        return sum(
            not dead and ttl_ms > 1000 * at_least_s
            for dead, ttl_ms in zip(told[::2], told[1::2], strict=True)
        )


def _or_empty(value: float | None) -> Any:
    """As a script has what is not asked for."""
    return "" if value is None else value
