"""StandInEngine: the engine's interface without a model, held by a gate until a test opens it."""

from __future__ import annotations

import contextlib
import threading
import time
from queue import Empty, SimpleQueue

import numpy as np

from movq_core.params import derived_seed
from movq_core.protocol import GenerateRequest
from worker.fakes import TINY
from worker.work import Cancel, FromEngine, Outcome, ToEngine, Watch, Work

SIZE = 8  # pixels to a side


class StandInEngine:
    """One thread; answers each Work with one Outcome once `gate` is set, and keeps what it was told to watch.

    `raises` maps a class id to the error that its job ends with.
    """

    def __init__(self) -> None:
        self.inbox: SimpleQueue[ToEngine] = SimpleQueue()
        self.outbox: SimpleQueue[FromEngine] = SimpleQueue()
        self.gate = threading.Event()
        self.raises: dict[int, Exception] = {}
        self.ran: list[str] = []  # job ids whose images were made, in order
        self.waiting: dict[str, Work] = {}
        self.watches: list[Watch] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(Empty):
                self._take(self.inbox.get(timeout=0.01))
            if self.gate.is_set() and self.inbox.empty():
                for job_id in list(self.waiting):
                    self._finish(self.waiting.pop(job_id))

    def _take(self, message: ToEngine) -> None:
        match message:
            case Work(job_id):
                self.waiting[job_id] = message
            case Watch():
                self.watches.append(message)
            case Cancel(job_id) if work := self.waiting.pop(job_id, None):
                self.outbox.put(Outcome(work, cancelled=True))

    def _finish(self, work: Work) -> None:
        request = work.request
        assert isinstance(request, GenerateRequest)
        if error := self.raises.get(request.class_id or 0):
            self.outbox.put(Outcome(work, error=error))
            return
        seeds = tuple(derived_seed(request.sampling.seed, i) for i in range(request.num_images))
        images = tuple(np.full((SIZE, SIZE, 3), seed % 256, dtype=np.uint8) for seed in seeds)
        now_s = time.monotonic()
        self.ran.append(work.job_id)
        self.outbox.put(
            Outcome(work, images=images, seeds=seeds, manifest=TINY, started_s=now_s, finished_s=now_s)
        )
