"""Job: one job as it stood at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from movq_core.protocol import GenerateRequest, JobKind, JobOutput, Request


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Job:
    """A job as it stood at one moment. `output` comes with success, `error` with failure."""

    id: str
    status: Status
    request: Request
    created_at: datetime
    position: int | None = None  # 1 is next; None once a worker has it
    started_at: datetime | None = None
    finished_at: datetime | None = None
    output: JobOutput | None = None
    error: str | None = None

    @property
    def kind(self) -> JobKind:
        return self.request.kind

    @property
    def is_final(self) -> bool:
        return self.status not in (Status.QUEUED, Status.RUNNING)


def images_of(request: Request) -> int:
    """How many images the request asks the worker for."""
    return request.num_images if isinstance(request, GenerateRequest) else 1
