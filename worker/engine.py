"""Engine: inbox -> schedule -> run -> outbox, on one thread.

Between two steps of the batch it takes what arrived. Steps, finished images, the tiles of encode, decode
and reconstruct jobs, and previews of watched images share the device's time fairly: see `turns`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum

from movq_core.errors import InvalidRequest
from movq_core.protocol import EditRequest, GenerateRequest
from worker.fit import check_fit
from worker.image_jobs import EngineMetrics, ImageJob, ImageJobs
from worker.runner import Runner
from worker.tile_jobs import TileJobs
from worker.turns import Turns
from worker.work import Cancel, Exchange, FromEngine, Outcome, ToEngine, Watch, Work

IDLE_S = 0.2  # how long an idle engine waits for work before it says that it lives


class Kind(Enum):
    """What the device does. A turn is the smallest piece of it."""

    GENERATION = "generation"  # one step of the batch, or the pixels of one finished image
    TILES = "tiles"  # one tile of an encode, decode or reconstruct job, or the window of an edit
    PREVIEWS = "previews"  # a watched image as it stands


# Who watches must not cost the others much: at most a seventh of the device's time, a quarter without tiles.
WEIGHTS = {Kind.GENERATION: 1.0, Kind.TILES: 1.0, Kind.PREVIEWS: 1 / 3}


class Engine:
    """Owns the jobs under way and the runner; `inbox` and `outbox` are all it shares.

    Every Work that goes in comes out as exactly one Outcome; a watched one shows Progress and Previews
    before. A job that raises fails alone. A DeviceFault, or a mistake of our own, ends the thread with
    `error` set: whoever watches must end the process.
    """

    def __init__(
        self,
        runner: Runner,
        rows: int,
        metrics: EngineMetrics,
        clock: Callable[[], float] = time.monotonic,
        *,
        previews: bool = True,
    ) -> None:
        self.inbox: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self.outbox: queue.SimpleQueue[FromEngine] = queue.SimpleQueue()
        self.rows = rows
        self.error: BaseException | None = None
        self.last_progress_s = clock()
        self._metrics = metrics
        self._clock = clock
        self._makes_previews = previews
        self._turns = Turns(WEIGHTS)
        self._jobs: dict[str, Work] = {}  # all that came in and have no Outcome yet
        self._watched: set[str] = set()  # of those
        self._held: list[Work] = []  # of those, what waits for the next runner
        self._next_runner: Runner | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._use(runner)

    def _use(self, runner: Runner) -> None:
        self._runner = runner
        self._manifest = runner.manifest
        self._tile_jobs = TileJobs(runner, self._clock)
        self._image_jobs = ImageJobs(
            runner,
            self.rows,
            metrics=self._metrics,
            clock=self._clock,
            watched=self._watched,
            tell=self._tell,
        )

    def memory_bytes(self) -> Mapping[str, int]:
        """What the memory of the device at hand holds, by type; callable from any thread."""
        return self._runner.memory_bytes()

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
        self._exchange_when_free()
        self._image_jobs.admit()
        started_s = self._clock()
        if kind := self._turns.next(self._busy()):
            self._take_turn(kind)
            self.last_progress_s = self._clock()
            self._turns.charge(kind, self.last_progress_s - started_s)
        else:
            self.last_progress_s = started_s

    def _busy(self) -> list[Kind]:
        """The kinds of work that can go on; images not yet decoded are waited for when all else is done."""
        busy = []
        if self._image_jobs.can_go_on(may_wait=not self._tile_jobs):
            busy.append(Kind.GENERATION)
        if self._tile_jobs:
            busy.append(Kind.TILES)
        if self._makes_previews and self._image_jobs.stalest():
            busy.append(Kind.PREVIEWS)
        return busy

    def _take_turn(self, kind: Kind) -> None:
        match kind:
            case Kind.GENERATION:
                self._image_jobs.go_on()
            case Kind.TILES:
                self._work_tile()
            case Kind.PREVIEWS:
                self._image_jobs.preview()

    def _work_tile(self) -> None:
        outcome = self._tile_jobs.work_tile()
        if outcome is None:
            return
        if isinstance(outcome.work.request, EditRequest) and outcome.codes is not None:
            job = ImageJob.edit(outcome.work, self._manifest, outcome.codes, outcome.started_s)
            self._image_jobs.add(job)
        else:
            self._tell(outcome)

    # -- messages -------------------------------------------------------------------------------

    def _drain_inbox(self) -> None:
        try:
            self._receive(self.inbox.get_nowait() if self._jobs else self.inbox.get(timeout=IDLE_S))
            while True:
                self._receive(self.inbox.get_nowait())
        except queue.Empty:
            return

    def _receive(self, message: ToEngine) -> None:
        match message:
            case Work(job_id):
                self._jobs[job_id] = message
                self._watch(job_id, message.watched)
                self._begin(message)
            case Cancel(job_id):
                self._cancel(job_id)
            case Watch(job_id, watched):
                self._watch(job_id, watched)
            case Exchange(runner):
                self._prepare_exchange(runner)

    def _begin(self, work: Work) -> None:
        """A job goes where it starts, or ends here when this bundle cannot do it."""
        if self._next_runner is not None:
            self._held.append(work)
            return
        try:
            check_fit(work, self._manifest)
        except InvalidRequest as error:
            self._tell(Outcome(work, error=error))
            return
        if work.mask is not None and len(work.mask) != self._manifest.movq.image_size:
            self._tell(Outcome(work, cancelled=True))  # cut for another bundle: it is to be loaded anew
        elif isinstance(work.request, GenerateRequest):
            self._image_jobs.add(ImageJob.generate(work, self._manifest))
        else:
            self._tile_jobs.add(work)

    def _cancel(self, job_id: str) -> None:
        """A job that is no longer here has its Outcome already."""
        if work := self._jobs.get(job_id):
            self._image_jobs.cancel(job_id)
            self._tile_jobs.cancel(job_id)
            self._held = [held for held in self._held if held is not work]
            self._tell(Outcome(work, cancelled=True))

    def _watch(self, job_id: str, watched: bool) -> None:
        if watched and job_id in self._jobs:
            self._watched.add(job_id)
        else:
            self._watched.discard(job_id)

    def _tell(self, news: FromEngine) -> None:
        if isinstance(news, Outcome):
            del self._jobs[news.work.job_id]
            self._watched.discard(news.work.job_id)
        self.outbox.put(news)

    # -- another bundle -------------------------------------------------------------------------

    def _prepare_exchange(self, runner: Runner) -> None:
        """From now on nothing begins; what has begun ends with the runner it began with."""
        self._next_runner = runner
        self._held += self._image_jobs.take_back()

    def _exchange_when_free(self) -> None:
        if self._next_runner is None or self._image_jobs or self._tile_jobs:
            return
        runner, self._next_runner = self._next_runner, None
        held, self._held = self._held, []
        self._use(runner)
        for work in held:
            self._begin(work)
