"""Engine: inbox -> schedule -> run -> outbox, on one thread.

Between two steps of the batch it takes what arrived. Steps, finished images and the tiles of encode, decode
and reconstruct jobs share the device's time fairly: see `turns`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest
from movq_core.tiles import Pixels
from worker.generation import Generation, generations_of
from worker.scheduler import Scheduler
from worker.tile_jobs import TileJobs, Tokenizer
from worker.turns import Kind, Turns
from worker.work import Cancel, Outcome, Work

IDLE_S = 0.2  # how long an idle engine waits for work before it says that it lives


class FinishedImage(Protocol):
    """An image whose steps are taken; its decoding has begun, or will."""

    def ready(self) -> bool:
        """Whether `pixels()` will not wait for the device."""
        ...

    def pixels(self) -> Pixels:
        """Waits; raises what decoding raised."""
        ...


class Runner(Tokenizer, Protocol):
    """What the engine asks of a device; `ModelRunner` is one, `fakes.FakeRunner` another."""

    def start(self, row: int, class_id: int | None, sampling: SamplingParams) -> None: ...
    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None: ...
    def finish(self, rows: Sequence[int]) -> Sequence[FinishedImage]:
        """The images of rows at their end; the rows may be started anew at once."""
        ...


class EngineMetrics(Protocol):
    """What the engine reports."""

    def step(self, rows: int, seconds: float) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def rows(self, running: int, waiting: int) -> None: ...


@dataclass
class GenerateJob:
    """A generate job under way: its images as they finish."""

    work: Work
    generations: list[Generation]
    started_s: float | None = None
    images: dict[int, Pixels] = field(default_factory=dict)

    def outcome(self, finished_s: float) -> Outcome:
        order = range(len(self.generations))
        return Outcome(
            self.work,
            images=tuple(self.images[index] for index in order),
            seeds=tuple(generation.sampling.seed for generation in self.generations),
            started_s=self.started_s or 0.0,
            finished_s=finished_s,
        )


class Finished(NamedTuple):
    """A generation that has its steps and waits for its pixels; it has no row any more."""

    generation: Generation
    image: FinishedImage
    since_s: float


class Engine:
    """Owns the scheduler, the jobs under way and the runner; `inbox` and `outbox` are all it shares.

    Every Work that goes in comes out as exactly one Outcome. A job that raises fails alone. A DeviceFault,
    or a mistake of our own, ends the thread with `error` set: whoever watches must end the process.
    """

    def __init__(
        self, runner: Runner, rows: int, metrics: EngineMetrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.inbox: queue.SimpleQueue[Work | Cancel] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.rows = rows
        self.error: BaseException | None = None
        self.last_progress_s = clock()
        self._runner = runner
        self._metrics = metrics
        self._clock = clock
        self._scheduler = Scheduler(rows)
        self._turns = Turns()
        self._jobs: dict[str, GenerateJob] = {}
        self._finished: deque[Finished] = deque()
        self._tile_jobs = TileJobs(runner, clock)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after the turn at hand; what is under way is dropped without an Outcome."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self.tick()
        except BaseException as error:  # noqa: BLE001 - kept for the watching thread, which ends the process
            self.error = error

    def tick(self) -> None:
        """Take what arrived, then do one turn of the kind of work whose turn it is; waits when idle."""
        self._drain_inbox()
        self._admit()
        started_s = self._clock()
        if kind := self._turns.next(self._busy()):
            if kind is Kind.GENERATION:
                self._generate(started_s)
            elif outcome := self._tile_jobs.work_tile():
                self.outbox.put(outcome)
            self.last_progress_s = self._clock()
            self._turns.charge(kind, self.last_progress_s - started_s)
        else:
            self.last_progress_s = started_s
        self._metrics.rows(len(self._scheduler.running), len(self._scheduler.waiting))

    def _busy(self) -> list[Kind]:
        """The kinds of work that can go on; images not yet decoded are waited for when all else is done."""
        busy = []
        if self._scheduler.running or (self._finished and (self._is_ready() or not self._tile_jobs)):
            busy.append(Kind.GENERATION)
        if self._tile_jobs:
            busy.append(Kind.TILES)
        return busy

    # -- messages -------------------------------------------------------------------------------

    def _drain_inbox(self) -> None:
        idle = not (self._jobs or self._tile_jobs)
        try:
            self._receive(self.inbox.get(timeout=IDLE_S) if idle else self.inbox.get_nowait())
            while True:
                self._receive(self.inbox.get_nowait())
        except queue.Empty:
            return

    def _receive(self, message: Work | Cancel) -> None:
        if isinstance(message, Cancel):
            self._cancel(message.job_id)
        elif isinstance(message.request, GenerateRequest):
            job = GenerateJob(message, generations_of(message.job_id, message.request))
            self._jobs[message.job_id] = job
            for generation in job.generations:
                self._scheduler.add(generation)
        else:
            self._tile_jobs.add(message)

    def _cancel(self, job_id: str) -> None:
        """A job that is no longer here has its Outcome already."""
        job = self._drop(job_id)
        if work := job.work if job else self._tile_jobs.cancel(job_id):
            self.outbox.put(Outcome(work, cancelled=True))

    def _fail(self, job_id: str, error: Exception) -> None:
        if job := self._drop(job_id):
            self.outbox.put(Outcome(job.work, error=error))

    def _drop(self, job_id: str) -> GenerateJob | None:
        """Forget a generate job and all of its images."""
        self._scheduler.cancel(job_id)
        self._finished = deque(f for f in self._finished if f.generation.job_id != job_id)
        return self._jobs.pop(job_id, None)

    # -- generation -----------------------------------------------------------------------------

    def _admit(self) -> None:
        for generation in self._scheduler.admit():
            assert generation.row is not None
            job = self._jobs[generation.job_id]
            job.started_s = job.started_s or self._clock()
            self._runner.start(generation.row, generation.class_id, generation.sampling)

    def _generate(self, started_s: float) -> None:
        """The pixels of the oldest finished image, or else a step: who is nearly done goes first."""
        if self._finished and (self._is_ready() or not self._scheduler.running):
            self._collect(self._finished.popleft())
        else:
            self._step(started_s)

    def _is_ready(self) -> bool:
        return self._finished[0].image.ready()

    def _step(self, started_s: float) -> None:
        batch = self._scheduler.batch()
        survivors = self._together(self._take_step, batch)
        self._metrics.step(len(batch), self._clock() - started_s)
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
        job_id = finished.generation.job_id
        job = self._jobs[job_id]
        try:
            job.images[finished.generation.index] = finished.image.pixels()
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an image raises is its job's failure
            self._fail(job_id, error)
            return
        finished_s = self._clock()
        self._metrics.decoded(finished_s - finished.since_s)
        if len(job.images) == len(job.generations):
            del self._jobs[job_id]
            self.outbox.put(job.outcome(finished_s))
