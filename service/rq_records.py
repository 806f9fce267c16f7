"""RQ's records of a job, read: its hash, its place or its result, and what becomes of them: a Job.

The formats are RQ's own; ours stand beside them in the hash. Nothing here talks to Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import DeserializationError, TimeoutFormatError
from rq.job import Job as RQJob
from rq.registry import FinishedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.utils import str_to_date

from movq_core.errors import JobNotFound
from movq_core.protocol import Priority, parse_queue_name, queue_name
from service.failures import failure_sentence
from service.job import Job, Status, output_of, request_of, status_of
from service.pace import Run

MAX_NUMBER = 2**33  # seconds since 1970, into the year 2242
# What RQ's reader raises on a record that RQ has not written; whoever can write to Redis may have.
_UNREADABLE = (
    TimeoutFormatError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError,
)  # fmt: skip
SERIALIZER = "json"  # never pickle: it runs code for whoever can write to Redis


@dataclass(frozen=True)
class Keys:
    """RQ's keys of one bundle: of its queues, and of their registries."""

    model: str

    @property
    def names(self) -> list[str]:
        return [queue_name(self.model, priority) for priority in Priority]

    @property
    def queues(self) -> list[str]:
        return [queue_key(name) for name in self.names]

    @property
    def started(self) -> list[str]:
        return [StartedJobRegistry.key_template.format(name) for name in self.names]

    @property
    def finished(self) -> list[str]:
        return [FinishedJobRegistry.key_template.format(name) for name in self.names]


@dataclass(frozen=True)
class Record:
    """A job's hash: RQ's part, ours, and what its queue's name tells."""

    rq: RQJob
    fields: Mapping[Any, Any]
    model: str
    priority: Priority

    @property
    def status(self) -> Status:
        return status_of(self.rq.get_status(refresh=False).value)

    def text(self, name: str) -> str | None:
        value: bytes | None = self.fields.get(name.encode())
        return value.decode("utf-8", "replace") if value else None

    def number(self, name: str) -> float | None:
        try:
            value = float(self.text(name) or "nan")
        except ValueError:  # not ours, then
            return None
        return value if 0 <= value < MAX_NUMBER else None


def record_of(job_id: str, fields: Mapping[Any, Any], connection: Redis) -> Record | None:
    """None when there is no such job, or somebody else enqueued it."""
    job = RQJob(job_id, connection, SERIALIZER)
    try:
        model, priority = parse_queue_name(fields[b"origin"].decode())
        job.restore(fields)
    except _UNREADABLE:
        return None
    return Record(job, fields, model, priority)


def result_of(job_id: str, entries: Any, connection: Redis) -> Result | None:
    """The first of these entries of RQ's stream of a job's results."""
    for entry_id, fields in entries or ():
        return Result.restore(job_id, entry_id.decode(), fields, connection, SERIALIZER)
    return None


def job_of(
    record: Record, position: int | None, estimated_wait_s: float | None, result: Result | None
) -> Job:
    """The job; raises JobNotFound when it is none of ours, or its result has expired."""
    job, status, deadline_at = record.rq, record.status, record.number("deadline_at")
    is_queued = status is Status.QUEUED
    try:
        kwargs = job.kwargs
    except DeserializationError as error:
        raise JobNotFound(f"Job {job.id} is none of this service's.") from error
    return Job(
        id=job.id,
        status=status,
        request=request_of(job.id, kwargs),
        created_at=job.created_at,
        model=record.model,
        priority=record.priority,
        position=position,
        estimated_wait_s=estimated_wait_s,
        progress=_progress(record),
        started_at=None if is_queued else job.started_at,
        finished_at=job.ended_at,
        deadline_at=moment(deadline_at) if deadline_at else None,
        webhook_url=record.text("webhook_url"),
        owner=record.text("owner"),
        request_id=record.text("request_id"),
        traceparent=record.text("traceparent"),
        output=output_of(result.return_value if result else None) if status is Status.SUCCEEDED else None,
        error=failure_sentence(result.exc_string if result else None) if status is Status.FAILED else None,
    )


def _progress(record: Record) -> float | None:
    """What is left of an earlier try is no progress of a job that waits."""
    if record.status is Status.SUCCEEDED:
        return 1.0
    return None if record.status is Status.QUEUED else record.number("progress")


def succeeded(job: Job, result: Result) -> Job:
    """`job` once it has returned `result`."""
    return replace(
        job,
        status=Status.SUCCEEDED,
        position=None,
        estimated_wait_s=None,
        progress=1.0,
        started_at=result.execution_started_at,
        finished_at=result.execution_ended_at,
        output=output_of(result.return_value),
    )


def run_of(
    images: bytes | None, started_at: bytes | None, ended_at: bytes | None, steps: bytes | None
) -> Run | None:
    """When a job ran, by the clock of its worker; None when its record does not say, or has expired."""
    if not started_at or not ended_at:
        return None
    try:
        began_s, ended_s = (str_to_date(moment).timestamp() for moment in (started_at, ended_at))
        return Run(int(images or 1), began_s, ended_s, int(steps or 1))
    except ValueError:  # somebody else has written there
        return None


def queue_key(name: str) -> str:
    return f"{Queue.redis_queue_namespace_prefix}{name}"


def results_key(job_id: str) -> str:
    """RQ's stream of a job's results."""
    return str(Result.get_key(job_id))  # type: ignore[no-untyped-call]


def moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
