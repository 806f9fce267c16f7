"""InFlight: one job between the queue and its end."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from movq_core.errors import MovqError
from movq_core.protocol import EditRequest, GenerateRequest, PreviewEvent, Request, StepEvent
from worker.claim import Claim, Ending
from worker.work import Work

log = structlog.get_logger("movq.intake")


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
    held: Request | None = None
    work: Work | None = None
    has_outcome: bool = False  # the engine has done its part
    verdict: Ending | None = None
    ending: Ending | None = None
    is_watched: bool = False
    progress: float | None = None  # share of its steps that it has taken; None: nobody has told
    news: list[StepEvent | PreviewEvent] = field(default_factory=list)

    def tell(self, event: StepEvent | PreviewEvent) -> None:
        """Of steps only the last is told, when there are several between two looks."""
        if self.news and isinstance(event, StepEvent) and isinstance(self.news[-1], StepEvent):
            self.news.pop()
        self.news.append(event)

    def take_news(self) -> list[StepEvent | PreviewEvent]:
        news, self.news = self.news, []
        return news

    @property
    def ended(self) -> Ending:
        assert self.ending is not None, "only entries that have ended are settled"
        return self.ending


def images_of(request: Request) -> int:
    """How many images the request asks the engine for."""
    return request.num_images if isinstance(request, GenerateRequest | EditRequest) else 1


def failure_of(error: BaseException | None) -> Ending:
    """What the caller reads; our own errors are sentences and final, others are told in the log."""
    if isinstance(error, MovqError):
        return Ending("failed", message=str(error))
    log.error("a job raised", exc_info=error)
    return Ending("failed", message=f"internal error ({type(error).__name__})", retry=True)
