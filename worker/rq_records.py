"""RQ's records of a job, read and written: its hash becomes a Claim, an Ending becomes what is written.

The formats are RQ's own, so that its tools and the service can read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from redis import Redis
from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL
from rq.exceptions import DeserializationError, NoSuchJobError, TimeoutFormatError
from rq.job import Job, JobStatus
from rq.registry import BaseRegistry, FailedJobRegistry, FinishedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.utils import current_timestamp, utcformat

from worker.claim import Claim, Ending

_STATUSES = {"succeeded": JobStatus.FINISHED, "failed": JobStatus.FAILED, "stopped": JobStatus.STOPPED}
_TOLD = {"succeeded": "succeeded", "failed": "failed", "stopped": "cancelled"}  # to those who listen

LONGEST_S = 10 * 365 * 24 * 3600
# What RQ's reader of a record raises on one that RQ has not written.
_UNREADABLE = (
    NoSuchJobError, TimeoutFormatError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
    OverflowError, RecursionError,
)  # fmt: skip

log = structlog.get_logger("movq.rq_worker")


def claim_of(
    job_id: str,
    execution_id: str,
    queue: str,
    record: Mapping[Any, Any],
    *,
    started_at: datetime,
    connection: Redis,
) -> Claim:
    """The claim of a job by its hash; of one that is no job's, a claim whose request cannot be read.

    Anybody who can write to Redis may have written it: nothing in it may stop a worker.
    """
    job = Job(job_id, connection, JSONSerializer)
    unreadable, function, arguments, deadline_s = "", None, {}, None
    try:
        job.restore(record)
        function, arguments = job.func_name, job.kwargs
        deadline_s = float(record[b"deadline_s"]) if b"deadline_s" in record else None
    except DeserializationError:
        unreadable = "the job's data is not JSON"
    except _UNREADABLE as error:
        log.warning("a record is not a job's", job_id=job_id, error=str(error))
        unreadable = "the record is not a job's"
    return Claim(
        job_id,
        execution_id,
        queue,
        started_at,
        enqueued_at=job.enqueued_at,
        function=function,
        arguments=arguments,
        unreadable=unreadable,
        timeout_s=_bounded(job.timeout) if job.timeout and job.timeout > 0 else None,
        result_ttl_s=None if job.result_ttl is None else _bounded(job.result_ttl),
        failure_ttl_s=None if job.failure_ttl is None else _bounded(job.failure_ttl),
        retries_left=job.retries_left or 0,
        deadline_s=deadline_s,
        lost=b"lost" in record,
        request_id=_text(record, b"request_id"),
        traceparent=_text(record, b"traceparent"),
    )


def _text(record: Mapping[Any, Any], name: bytes) -> str | None:
    """Whoever else may write to Redis need not write UTF-8."""
    value: bytes | None = record.get(name)
    return value.decode(errors="replace") if value else None


def _bounded(seconds: float) -> int:
    """-1, which is for ever, to `LONGEST_S`: more than that no command of Redis takes."""
    return int(max(-1, min(seconds, LONGEST_S)))


@dataclass(frozen=True)
class FinalRecord:
    """What is written of an ending: fields of the job, and of its result; none when it shall run again."""

    registry: str  # of the jobs that ended so
    ttl_s: int
    event: str  # its data, as JSON
    fields: Mapping[str, Any]
    result: Mapping[str, Any]

    def arguments(self) -> list[Any]:
        """As the script END takes them."""
        expires_at: Any = "+inf" if self.ttl_s < 0 else current_timestamp() + self.ttl_s
        fields, result = ([part for pair in m.items() for part in pair] for m in (self.fields, self.result))
        return [self.ttl_s, expires_at, self.event, len(fields), *fields, *result]


def final_record(claim: Claim, ending: Ending, ended_at: datetime, worker_name: str) -> FinalRecord:
    """As RQ's worker would write it."""
    told = utcformat(ended_at)
    if ending.retry and claim.has_retries:
        again = {"status": JobStatus.QUEUED.value, "retries_left": claim.retries_left - 1}
        failed = FailedJobRegistry.key_template.format(claim.queue)
        return FinalRecord(failed, -1, "{}", {**again, "enqueued_at": told}, {})
    registry: type[BaseRegistry]
    if ending.how == "succeeded":
        registry, ttl_s, default_s = FinishedJobRegistry, claim.result_ttl_s, DEFAULT_RESULT_TTL
    else:
        registry, ttl_s, default_s = FailedJobRegistry, claim.failure_ttl_s, DEFAULT_FAILURE_TTL
    fields = {"status": _STATUSES[ending.how].value, "ended_at": told, "last_heartbeat": told}
    result = result_of(claim, ending, ended_at, worker_name).serialize()
    event = json.dumps({"status": _TOLD[ending.how]})
    key = registry.key_template.format(claim.queue)
    return FinalRecord(key, default_s if ttl_s is None else ttl_s, event, fields, result)


def result_of(claim: Claim, ending: Ending, ended_at: datetime, worker_name: str) -> Result:
    """The entry of the stream that the service waits on; a stopped job's is a failure, as RQ has it."""
    succeeded = ending.how == "succeeded"
    return Result(
        claim.job_id,
        Result.Type.SUCCESSFUL if succeeded else Result.Type.FAILED,
        connection=None,  # type: ignore[arg-type]  # it is written by a script
        return_value=ending.output.model_dump(mode="json") if ending.output else None,
        exc_string=None if succeeded else ending.message,
        worker_name=worker_name,
        serializer=JSONSerializer,
        execution_id=claim.execution_id,
        execution_started_at=claim.started_at,
        execution_ended_at=ended_at,
    )
