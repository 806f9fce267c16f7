"""InFlight: one job between the queue and its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from movq_core.errors import MovqError
from movq_core.protocol import EditRequest, GenerateRequest, PreviewEvent, Request, StepEvent
from worker.claim import Claim, Ending
from worker.work import Work

log = structlog.get_logger("movq.intake")


class Phase(NamedTuple):
    """What a part of a job's time was spent on; moments by `time.monotonic()`."""

    name: str
    begun_s: float
    ended_s: float


@dataclass(eq=False)
class InFlight:
    """One claimed job.

    `held` is set while it waits to run alone, `work` while the engine has it. `verdict` beats what the
    engine says. `news` is for those who watch it, and not told yet.
    """

    claim: Claim
    kind: str
    images: int
    taken_s: float
    request: Request | None = None  # None: it could not be read
    held: Request | None = None
    work: Work | None = None
    has_outcome: bool = False  # the engine has done its part
    verdict: Ending | None = None
    ending: Ending | None = None
    is_watched: bool = False
    progress: float | None = None  # share of its steps that it has taken; None: nobody has told
    news: list[StepEvent | PreviewEvent] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)  # those that are over

    def tell(self, event: StepEvent | PreviewEvent) -> None:
        """Of steps only the last is told, when there are several between two looks."""
        if self.news and isinstance(event, StepEvent) and isinstance(self.news[-1], StepEvent):
            self.news.pop()
        self.news.append(event)

    def take_news(self) -> list[StepEvent | PreviewEvent]:
        news, self.news = self.news, []
        return news

    def spent(self, name: str, until_s: float | None = None) -> None:
        """All its time since the last phase went into `name`, until then or now."""
        since_s = self.phases[-1].ended_s if self.phases else self.taken_s
        self.phases.append(Phase(name, since_s, until_s or time.monotonic()))

    @property
    def ended(self) -> Ending:
        assert self.ending is not None, "only entries that have ended are settled"
        return self.ending


def images_of(request: Request) -> int:
    """How many images the request asks the engine for."""
    return request.num_images if isinstance(request, GenerateRequest | EditRequest) else 1


def failure_of(error: BaseException | None, claim: Claim) -> Ending:
    """What the caller reads; our own errors are sentences and final, others are told in the log."""
    if isinstance(error, MovqError):
        return Ending("failed", message=str(error))
    log.error("a job raised", exc_info=error, **claim.ids)
    return Ending("failed", message=f"internal error ({type(error).__name__})", retry=True)
