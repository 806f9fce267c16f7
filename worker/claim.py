"""Claim: a job that this worker has taken, as it stood then; Ending: how it shall end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from movq_core.errors import InvalidRequest
from movq_core.protocol import JobKind, JobOutput, Request, parse_queue_name, parse_request

_FUNCTIONS = {kind.function: kind for kind in JobKind}


class Lease(StrEnum):
    """Whose a claimed job is."""

    OWNED = "owned"
    LOST = "lost"  # another worker's, or already ended elsewhere
    CANCELED = "canceled"  # its caller wants it no more


class Renewal(NamedTuple):
    """Whose a claimed job is, whether anybody watches it, and whether it was asked to stop."""

    lease: Lease
    watched: bool
    stop: bool


@dataclass(frozen=True, eq=False)
class Claim:
    """A job, and our execution of it."""

    job_id: str
    execution_id: str
    queue: str
    started_at: datetime
    enqueued_at: datetime | None = None
    function: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    unreadable: str = ""  # what is wrong with a record that cannot be read
    timeout_s: float | None = None  # None: no limit
    deadline_s: float | None = None  # seconds that its caller has given it
    left_s: float | None = None  # what was left of them, by the server's clock, when it was taken
    watched: bool = False  # somebody listened when it was taken
    result_ttl_s: int | None = None  # None: RQ's default
    failure_ttl_s: int | None = None
    retries_left: int = 0
    lost: bool = False  # a worker died while it had this job
    request_id: str | None = None  # of the request that made it
    traceparent: str | None = None  # of the span in which it was made

    @property
    def ids(self) -> dict[str, str]:
        """What each log line about it tells."""
        return {"job_id": self.job_id} | ({"request_id": self.request_id} if self.request_id else {})

    @property
    def model(self) -> str:
        return parse_queue_name(self.queue)[0]

    @property
    def member(self) -> str:
        """RQ's name for the execution, in the registry of started jobs and elsewhere."""
        return f"{self.job_id}:{self.execution_id}"

    @property
    def waited_s(self) -> float:
        """Seconds the job stood in the queue."""
        return (self.started_at - self.enqueued_at).total_seconds() if self.enqueued_at else 0.0

    @property
    def is_expired(self) -> bool:
        """Whether its deadline had passed when it was taken."""
        return self.left_s is not None and self.left_s <= 0

    @property
    def limit_s(self) -> float | None:
        """Seconds that it may take; None: as many as it likes."""
        return min((limit for limit in (self.timeout_s, self.left_s) if limit is not None), default=None)

    def overdue(self) -> Ending:
        """How it ends when it has taken `limit_s`; final, for another try would come later still."""
        if self.limit_s == self.left_s and self.deadline_s is not None:
            meanwhile = "waited" if self.is_expired else "ran"
            return Ending(
                "failed", message=f"The deadline of {self.deadline_s:g} s passed while it {meanwhile}."
            )
        return Ending("failed", message=f"took longer than {self.timeout_s:g} s")

    @property
    def has_retries(self) -> bool:
        return self.retries_left > 0

    @property
    def must_run_alone(self) -> bool:
        """Whether this is the last try of a job that may be what kills workers.

        Beside others it would take them with it: they have shared its every try so far.
        """
        return self.lost and not self.has_retries

    def request(self) -> Request:
        """What the job asks for; raises InvalidRequest when it is nothing of ours."""
        if self.unreadable:
            raise InvalidRequest(self.unreadable)
        if self.function not in _FUNCTIONS:
            raise InvalidRequest(f"unknown function {self.function!r}: allowed are {', '.join(_FUNCTIONS)}")
        try:
            request = parse_request(self.arguments.get("request"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidRequest(f"the job's request is not valid: {where}: {first['msg']}") from error
        if request.kind != _FUNCTIONS[self.function]:
            raise InvalidRequest(f"{self.function} was given a request of kind {request.kind.value}")
        return request


@dataclass(frozen=True)
class Ending:
    """How a job shall end; `failed` with `retry` runs again while the job has retries."""

    how: Literal["succeeded", "failed", "stopped"]
    output: JobOutput | None = None
    message: str = ""
    retry: bool = False
