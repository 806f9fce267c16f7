"""ImageJobs: the jobs whose images are made in rows: generations, and edits once their window is encoded.

They share the batch: who waits longest has the next free row, and all that run take their steps together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self

import structlog

from movq_core.edits import code_mask, remasked
from movq_core.errors import DeviceFault
from movq_core.manifest import Manifest
from movq_core.protocol import EditRequest, GenerateRequest
from movq_core.tiles import Codes, Pixels
from worker.generation import Generation, generations_of, seeds_of
from worker.runner import FinishedImage, Runner
from worker.scheduler import Scheduler
from worker.work import FromEngine, Outcome, Preview, Progress, Work

PROGRESS_EVERY_S = 1.0  # of a job that nobody watches; a lease is renewed less often, and tells the last

log = structlog.get_logger("movq.engine")


class EngineMetrics(Protocol):
    """What the engine reports."""

    def step(self, rows: int, seconds: float) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def rows(self, running: int, waiting: int) -> None: ...


@dataclass
class ImageJob:
    """A generate or edit job under way: its images as they finish, and of an edit the first one's codes."""

    work: Work
    manifest: Manifest
    generations: list[Generation]
    started_s: float | None = None
    told_s: float = 0.0  # when its progress was last told
    images: dict[int, Pixels] = field(default_factory=dict)
    codes: Codes | None = None

    @classmethod
    def generate(cls, work: Work, manifest: Manifest) -> Self:
        """Images from nothing."""
        assert isinstance(work.request, GenerateRequest)
        return cls(work, manifest, generations_of(work.job_id, work.request, manifest))

    @classmethod
    def edit(cls, work: Work, manifest: Manifest, codes: Codes, started_s: float) -> Self:
        """Images from the `codes` (C, H, W) of the work's window, masked anew for each."""
        request = work.request
        assert isinstance(request, EditRequest)
        assert work.mask is not None
        cells = code_mask(work.mask, manifest.movq.downsampling_factor)
        mask_code = manifest.movq.codebook_size
        known = [remasked(codes, cells, request.strength, seed, mask_code) for seed in seeds_of(request)]
        generations = generations_of(work.job_id, request, manifest, known)
        return cls(work, manifest, generations, started_s, told_s=started_s)

    @property
    def is_done(self) -> bool:
        return len(self.images) == len(self.generations)

    def take(self, finished: Finished) -> None:
        """The pixels of one of its images, and of an edit's first the codes; raises what decoding raised."""
        index = finished.generation.index
        self.images[index] = finished.image.pixels()
        if index == 0 and isinstance(self.work.request, EditRequest):
            self.codes = finished.image.codes

    def progress(self) -> Progress:
        """The steps that its images have taken together."""
        known = sum(generation.known_share for generation in self.generations)
        return Progress(
            self.work.job_id,
            taken=sum(generation.step for generation in self.generations),
            steps=sum(generation.sampling.steps for generation in self.generations),
            known=known / len(self.generations),
        )

    def outcome(self, finished_s: float) -> Outcome:
        return Outcome(
            self.work,
            images=tuple(self.images[index] for index in range(len(self.generations))),
            seeds=tuple(generation.sampling.seed for generation in self.generations),
            codes=self.codes,
            manifest=self.manifest,
            started_s=self.started_s or 0.0,
            finished_s=finished_s,
        )


class Finished(NamedTuple):
    """A generation that has its steps and waits for its pixels; it has no row any more."""

    generation: Generation
    image: FinishedImage
    since_s: float


class ImageJobs:
    """Owned by the engine thread; it owns the scheduler, and of the runner the rows.

    What comes of the jobs is told to `tell`: an Outcome each, and of those in `watched` what the others do
    not see. A job that raises fails alone; a DeviceFault passes.
    """

    def __init__(
        self,
        runner: Runner,
        rows: int,
        *,
        metrics: EngineMetrics,
        clock: Callable[[], float],
        watched: Set[str],
        tell: Callable[[FromEngine], None],
    ) -> None:
        self._runner = runner
        self._metrics = metrics
        self._clock = clock
        self._watched = watched
        self._tell = tell
        self._scheduler = Scheduler(rows)
        self._jobs: dict[str, ImageJob] = {}
        self._finished: deque[Finished] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: ImageJob) -> None:
        self._jobs[job.work.job_id] = job
        for generation in job.generations:
            self._scheduler.add(generation)

    def cancel(self, job_id: str) -> None:
        """Forget a job and all of its images, if it is here."""
        self._scheduler.cancel(job_id)
        self._finished = deque(f for f in self._finished if f.generation.job_id != job_id)
        self._jobs.pop(job_id, None)

    def take_back(self) -> list[Work]:
        """The work of the jobs that the device has not begun; they are forgotten here."""
        works = [job.work for job in self._jobs.values() if job.started_s is None]
        for work in works:
            self.cancel(work.job_id)
        return works

    def admit(self) -> None:
        """Start those who wait in the rows that are free."""
        for generation in self._scheduler.admit():
            assert generation.row is not None
            job = self._jobs[generation.job_id]
            if job.started_s is None:
                job.started_s = job.told_s = self._clock()
            self._runner.start(generation.row, generation.class_id, generation.sampling, generation.known)
        self._metrics.rows(len(self._scheduler.running), len(self._scheduler.waiting))

    def can_go_on(self, *, may_wait: bool) -> bool:
        """Whether there is a step to take or an image to collect; `may_wait`: even one not yet decoded."""
        return bool(self._scheduler.running or (self._finished and (may_wait or self._is_ready())))

    def go_on(self) -> None:
        """The pixels of the oldest finished image, or else a step: who is nearly done goes first."""
        if self._finished and (self._is_ready() or not self._scheduler.running):
            self._collect(self._finished.popleft())
        else:
            self._step()

    def _is_ready(self) -> bool:
        return self._finished[0].image.ready()

    # -- steps ----------------------------------------------------------------------------------

    def _step(self) -> None:
        started_s = self._clock()
        batch = self._scheduler.batch()
        survivors = self._together(self._take_step, batch)
        self._metrics.step(len(batch), self._clock() - started_s)
        self._tell_progress(survivors)
        if finished := [generation for generation in survivors if generation.finished]:
            self._together(self._finish, finished)

    def _take_step(self, batch: Sequence[Generation]) -> None:
        self._runner.step([g.row for g in batch if g.row is not None], [g.step for g in batch])
        for generation in batch:
            generation.step += 1

    def _finish(self, batch: Sequence[Generation]) -> None:
        """These rows are free; their images come out later."""
        images = self._runner.finish([g.row for g in batch if g.row is not None])
        since_s = self._clock()
        for generation, image in zip(batch, images, strict=True):
            self._scheduler.retire(generation)
            self._finished.append(Finished(generation, image, since_s))

    def _together(
        self, act: Callable[[Sequence[Generation]], None], batch: Sequence[Generation]
    ) -> Sequence[Generation]:
        """`act` on all, or when that raises on each alone: a poisonous row fails alone. The survivors."""
        try:
            act(batch)
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a row raises is its job's failure
            if len(batch) == 1:
                self._fail(batch[0].job_id, error)
                return []
            for generation in batch:
                if generation.row is not None:  # None: an image of the same job failed just now
                    self._together(act, [generation])
            return [generation for generation in batch if generation.row is not None]
        return batch

    def _collect(self, finished: Finished) -> None:
        """The pixels of an image, and with its last image the job's Outcome."""
        job = self._jobs[finished.generation.job_id]
        try:
            job.take(finished)
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an image raises is its job's failure
            self._fail(job.work.job_id, error)
            return
        finished_s = self._clock()
        self._metrics.decoded(finished_s - finished.since_s)
        if job.is_done:
            del self._jobs[job.work.job_id]
            self._tell(job.outcome(finished_s))

    def _fail(self, job_id: str, error: Exception) -> None:
        work = self._jobs[job_id].work
        self.cancel(job_id)
        self._tell(Outcome(work, error=error))

    # -- for those who watch, and those who ask now and then ------------------------------------

    def _tell_progress(self, batch: Sequence[Generation]) -> None:
        """Of watched jobs after each step, of the others now and then."""
        now_s = self._clock()
        for job_id in dict.fromkeys(generation.job_id for generation in batch):
            job = self._jobs[job_id]
            if job_id in self._watched or now_s - job.told_s >= PROGRESS_EVERY_S:
                job.told_s = now_s
                self._tell(job.progress())

    def stalest(self) -> Generation | None:
        """Of the watched images that have new codes to show, the one whose last preview is oldest."""
        if not self._watched:
            return None
        stale = (g for g in self._scheduler.running.values() if g.step > g.previewed_step)
        return min((g for g in stale if g.job_id in self._watched), key=_previewed_s, default=None)

    def preview(self) -> None:
        """Show the stalest image. When that cannot be done the job goes on: a preview is an extra."""
        generation = self.stalest()
        assert generation is not None
        assert generation.row is not None
        work = self._jobs[generation.job_id].work
        generation.previewed_step, generation.previewed_s = generation.step, self._clock()
        try:
            pixels = self._runner.preview(generation.row)
        except DeviceFault:
            raise
        except Exception:
            ids = {"job_id": work.job_id, "request_id": work.request_id}
            log.warning("a preview could not be made", **ids, exc_info=True)
            return
        owner = work.request.owner
        known = generation.known_share
        self._tell(Preview(generation.job_id, generation.index, generation.step, known, pixels, owner))


def _previewed_s(generation: Generation) -> float:
    return generation.previewed_s
