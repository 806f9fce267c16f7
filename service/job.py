"""Job: one job as it stood at one moment; Submission: what a caller says of a job beside its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from movq_core.errors import JobNotFound
from movq_core.protocol import (
    EditRequest,
    GenerateRequest,
    JobKind,
    JobOutput,
    Priority,
    Request,
    parse_request,
)


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Idempotency:
    """A caller's own name for a submission, and what tells its request from another's."""

    key: str
    fingerprint: str


@dataclass(frozen=True)
class Submission:
    """How a request shall become a job of `model`.

    `deadline_s`: seconds from now by which it must have ended. `watched`: a listener is about to come, so
    events are kept from the first one on. `max_open`: jobs of this owner that may be queued or running.
    `request_id` and `traceparent` go with the job, into the logs and spans of whoever has to do with it.
    """

    model: str
    priority: Priority = Priority.NORMAL
    deadline_s: float | None = None
    webhook_url: str | None = None
    idempotency: Idempotency | None = None
    watched: bool = False
    max_open: int | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True)
class Job:
    """A job as it stood at one moment. `output` comes with success, `error` with failure.

    `position` is its place in its own queue, 1 is next; None once a worker has it. `progress`: 0 to 1, None
    where nobody knows.
    """

    id: str
    status: Status
    request: Request
    created_at: datetime
    model: str
    priority: Priority = Priority.NORMAL
    position: int | None = None
    estimated_wait_s: float | None = None  # of a queued one; None without a rate to go by
    progress: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    webhook_url: str | None = None
    owner: str | None = None
    request_id: str | None = None  # of the request that made it
    traceparent: str | None = None  # of the span in which it was made
    output: JobOutput | None = None
    error: str | None = None

    @property
    def kind(self) -> JobKind:
        return self.request.kind

    @property
    def is_final(self) -> bool:
        return self.status not in (Status.QUEUED, Status.RUNNING)

    @property
    def missed_deadline(self) -> bool:
        """Whether it failed because its time was over, by the clocks of Redis and of its worker."""
        if self.status is not Status.FAILED or self.finished_at is None or self.deadline_at is None:
            return False
        return self.finished_at >= self.deadline_at


@dataclass(frozen=True)
class Submitted:
    """The job of a submission; not a new one when its Idempotency-Key was seen before."""

    job: Job
    is_new: bool


def images_of(request: Request) -> int:
    """How many images the request asks the worker for."""
    return request.num_images if isinstance(request, GenerateRequest | EditRequest) else 1


def steps_of(request: Request) -> int:
    """How many steps each of them takes; what takes none counts as one."""
    return request.sampling.steps if isinstance(request, GenerateRequest | EditRequest) else 1


_BY_RQ_STATUS = {
    "started": Status.RUNNING,
    "finished": Status.SUCCEEDED,
    "failed": Status.FAILED,
    "stopped": Status.CANCELLED,
    "canceled": Status.CANCELLED,
}


def status_of(rq_status: str) -> Status:
    """Our word for RQ's; whatever is not yet started is queued."""
    return _BY_RQ_STATUS.get(rq_status, Status.QUEUED)


def request_of(job_id: str, kwargs: Mapping[str, Any]) -> Request:
    """The request in a job's arguments; raises JobNotFound when somebody else enqueued the job."""
    try:
        return parse_request(kwargs["request"])
    except (KeyError, ValidationError) as error:
        raise JobNotFound(f"Job {job_id} is none of this service's.") from error


def output_of(return_value: Any) -> JobOutput:
    """What a succeeded job returned; raises JobNotFound when that has expired."""
    if return_value is None:
        raise JobNotFound("The job has succeeded, but its result has expired.")
    return JobOutput.model_validate(return_value)
