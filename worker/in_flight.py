"""InFlight: one job between the queue and its end."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from movq_core.errors import MovqError
from movq_core.protocol import GenerateRequest, Request
from worker.claim import Claim, Ending
from worker.work import Work

log = structlog.get_logger("movq.intake")


@dataclass(eq=False)
class InFlight:
    """One claimed job.

    `held` is set while it waits to run alone, `work` while the engine has it. `verdict` beats what the
    engine says.
    """

    claim: Claim
    kind: str
    images: int
    taken_s: float
    held: Request | None = None
    work: Work | None = None
    has_outcome: bool = False  # the engine has done its part
    verdict: Ending | None = None
    ending: Ending | None = None

    @property
    def ended(self) -> Ending:
        assert self.ending is not None, "only entries that have ended are settled"
        return self.ending


def images_of(request: Request) -> int:
    """How many images the request asks the engine for."""
    return request.num_images if isinstance(request, GenerateRequest) else 1


def failure_of(error: BaseException | None) -> Ending:
    """What the caller reads; our own errors are sentences and final, others are told in the log."""
    if isinstance(error, MovqError):
        return Ending("failed", message=str(error))
    log.error("a job raised", exc_info=error)
    return Ending("failed", message=f"internal error ({type(error).__name__})", retry=True)
