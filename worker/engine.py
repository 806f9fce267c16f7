"""Engine: inbox -> schedule -> run -> outbox, on one thread.

Between two steps of the batch it takes what arrived, and does one tile's worth of encode, decode or
reconstruct work: neither kind starves the other.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from movq_core.errors import DeviceFault
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.protocol import DecodeRequest, EncodeRequest, GenerateRequest, Tiling
from movq_core.tiles import TILE_CELLS, Codes, Pixels, decode_tiles, encode_tiles
from worker.generation import Generation, generations_of
from worker.scheduler import Scheduler
from worker.work import Cancel, Outcome, Work

IDLE_S = 0.2  # how long an idle engine waits for work before it says that it lives


class Runner(Protocol):
    """What the engine asks of a device; `ModelRunner` is one, `fakes.FakeRunner` another."""

    @property
    def manifest(self) -> Manifest: ...
    def start(self, row: int, class_id: int | None, sampling: SamplingParams) -> None: ...
    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None: ...
    def finish(self, row: int) -> Codes: ...
    def encode(self, pixels: Pixels) -> Codes: ...
    def decode(self, codes: Codes) -> Pixels: ...


class EngineMetrics(Protocol):
    """What the engine reports."""

    def step(self, rows: int, seconds: float) -> None: ...
    def decoded(self, images: int, seconds: float) -> None: ...
    def rows(self, running: int, waiting: int) -> None: ...


@dataclass
class GenerateJob:
    """A generate job under way: its images as they finish."""

    work: Work
    generations: list[Generation]
    started_s: float | None = None
    images: dict[int, Pixels] = field(default_factory=dict)

    def outcome(self) -> Outcome:
        order = range(len(self.generations))
        return Outcome(
            self.work,
            images=tuple(self.images[index] for index in order),
            seeds=tuple(generation.sampling.seed for generation in self.generations),
            started_s=self.started_s or 0.0,
            finished_s=time.monotonic(),
        )


@dataclass
class TileJob:
    """An encode, decode or reconstruct job under way: each `next(tiles)` works one tile."""

    work: Work
    tiles: Generator[None, None, Outcome]


class Engine:
    """Owns the scheduler, the jobs under way and the runner; `inbox` and `outbox` are all it shares.

    Every Work that goes in comes out as exactly one Outcome. A job that raises fails alone. A DeviceFault,
    or a mistake of our own, ends the thread with `error` set: whoever watches must end the process.
    """

    def __init__(self, runner: Runner, rows: int, metrics: EngineMetrics) -> None:
        self.inbox: queue.SimpleQueue[Work | Cancel] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.rows = rows
        self.error: BaseException | None = None
        self.last_progress_s = time.monotonic()
        self._runner = runner
        self._metrics = metrics
        self._scheduler = Scheduler(rows)
        self._jobs: dict[str, GenerateJob] = {}
        self._tile_jobs: deque[TileJob] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after the step at hand; what is under way is dropped without an Outcome."""
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
        """Take what arrived, then one step of the batch and one tile; waits a moment when idle."""
        self._drain_inbox()
        self._admit()
        self._step()
        self._work_tile()
        self._metrics.rows(len(self._scheduler.running), len(self._scheduler.waiting))
        self.last_progress_s = time.monotonic()

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
            self._tile_jobs.append(TileJob(message, self._tiles(message)))

    def _cancel(self, job_id: str) -> None:
        """A job that is no longer here has its Outcome already."""
        self._scheduler.cancel(job_id)
        if job := self._jobs.pop(job_id, None):
            self.outbox.put(Outcome(job.work, cancelled=True))
        for tile_job in [j for j in self._tile_jobs if j.work.job_id == job_id]:
            self._tile_jobs.remove(tile_job)
            self.outbox.put(Outcome(tile_job.work, cancelled=True))

    def _fail(self, job_id: str, error: Exception) -> None:
        self._scheduler.cancel(job_id)
        job = self._jobs.pop(job_id)
        self.outbox.put(Outcome(job.work, error=error))

    def _admit(self) -> None:
        for generation in self._scheduler.admit():
            assert generation.row is not None
            job = self._jobs[generation.job_id]
            job.started_s = job.started_s or time.monotonic()
            self._runner.start(generation.row, generation.class_id, generation.sampling)

    def _step(self) -> None:
        batch = self._scheduler.batch()
        if not batch:
            return
        started = time.monotonic()
        for generation in self._advance(batch):
            generation.step += 1
        self._metrics.step(len(batch), time.monotonic() - started)
        finished = [g for g in batch if g.finished]
        started = time.monotonic()
        for generation in finished:
            self._retire(generation)
        self._metrics.decoded(len(finished), time.monotonic() - started)

    def _advance(self, batch: list[Generation]) -> list[Generation]:
        """One step of all; when that raises, of each alone, so that a poisonous row fails alone."""
        try:
            self._runner.step([g.row for g in batch if g.row is not None], [g.step for g in batch])
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a row raises is its job's failure
            if len(batch) == 1:
                self._fail(batch[0].job_id, error)
                return []
            alive = []
            for generation in batch:
                if generation.row is not None:  # None: an image of the same job failed just now
                    alive += self._advance([generation])
            return [g for g in alive if g.row is not None]
        return batch

    def _retire(self, generation: Generation) -> None:
        if generation.row is None:  # another image of its job failed while decoding
            return
        row = generation.row
        self._scheduler.retire(generation)
        job = self._jobs[generation.job_id]
        try:
            job.images[generation.index] = self._runner.decode(self._runner.finish(row))
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a row raises is its job's failure
            self._fail(generation.job_id, error)
            return
        if len(job.images) == len(job.generations):
            del self._jobs[generation.job_id]
            self.outbox.put(job.outcome())

    def _work_tile(self) -> None:
        """One tile of the job whose turn it is; the jobs take turns."""
        if not self._tile_jobs:
            return
        job = self._tile_jobs.popleft()
        try:
            next(job.tiles)
        except StopIteration as stop:
            self.outbox.put(stop.value)
        except DeviceFault:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its own failure
            self.outbox.put(Outcome(job.work, error=error))
        else:
            self._tile_jobs.append(job)

    def _tiles(self, work: Work) -> Generator[None, None, Outcome]:
        """The tiles of a reconstruct, encode or decode job, and at the end its Outcome."""
        assert not isinstance(work.request, GenerateRequest)
        started = time.monotonic()
        factor = self._runner.manifest.movq.downsampling_factor
        tile_cells = TILE_CELLS if work.request.tiling is Tiling.TILES else None
        if isinstance(work.request, DecodeRequest):
            assert work.codes is not None
            assert work.size is not None
            image = yield from decode_tiles(self._runner.decode, work.codes, factor, work.size, tile_cells)
            outcome = Outcome(work, images=(image,), codes=work.codes)
        else:
            assert work.pixels is not None
            codes = yield from encode_tiles(self._runner.encode, work.pixels, factor, tile_cells)
            outcome = Outcome(work, codes=codes)
            if not isinstance(work.request, EncodeRequest):
                size = work.pixels.shape[0], work.pixels.shape[1]
                image = yield from decode_tiles(self._runner.decode, codes, factor, size, tile_cells)
                outcome = replace(outcome, images=(image,))
        return replace(outcome, started_s=started, finished_s=time.monotonic())
