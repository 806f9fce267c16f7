"""Oracle: what a request gives when nothing goes wrong, by the worker's own engine and pool, right here."""

from __future__ import annotations

from pathlib import Path

from movq_core.blobs import BlobStore
from movq_core.protocol import GenerateRequest, JobOutput, Request
from worker.engine import Engine
from worker.fakes import TINY, SilentMetrics
from worker.metrics import WorkerMetrics
from worker.model_runner import ModelRunner
from worker.pool import ImagePool
from worker.work import Outcome, Work


class Oracle:
    """Remembers what it has made. It writes what the workers write, under the same keys, into `blobs`."""

    def __init__(self, bundle: Path, device: str = "cpu") -> None:
        # The workers' cache: which form of an operation is fastest is part of how pixels are rounded.
        runner = ModelRunner(
            bundle, 4, device, deterministic=device == "cuda", cache_dir=bundle.parent / "cache"
        )
        self._engine = Engine(runner, 4, SilentMetrics())
        self._known: dict[str, JobOutput] = {}

    def of(self, request: Request, blobs: Path) -> JobOutput:
        """Its output; the bytes that it reads are looked for in `blobs`."""
        name = request.model_dump_json()
        if name not in self._known:
            self._known[name] = self._make(request, blobs)
        return self._known[name]

    def _make(self, request: Request, blobs: Path) -> JobOutput:
        pool = ImagePool(BlobStore(str(blobs)), TINY, WorkerMetrics(), threads=1)
        try:
            is_plain = isinstance(request, GenerateRequest)
            work = Work("oracle", request) if is_plain else pool.load("oracle", request).result()
            outcome = self._run(work)
            assert outcome.error is None, outcome.error
            return pool.store(outcome).result()
        finally:
            pool.close()

    def _run(self, work: Work) -> Outcome:
        self._engine.inbox.put(work)
        while True:
            self._engine.tick()
            while not self._engine.outbox.empty():
                news = self._engine.outbox.get()
                if isinstance(news, Outcome):
                    return news
