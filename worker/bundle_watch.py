"""BundleWatch: notices another bundle in the worker's folder, and lets the engine go on with it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import structlog

from movq_core.checksums import CHECKSUMS_FILE
from movq_core.errors import BundleError, DeviceFault
from movq_core.manifest import CONFIG_FILE, LABELS_FILE
from worker.engine import Engine
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.runner import Runner
from worker.work import Exchange

log = structlog.get_logger("movq.worker")


class FolderState(NamedTuple):
    """What tells one bundle on disk from another, without reading it: where it is, and each file's state."""

    path: Path
    files: frozenset[tuple[str, int, int]]  # name, size_bytes, mtime_ns

    @classmethod
    def of(cls, folder: Path) -> FolderState:
        path = folder.resolve()
        files = [
            path / CONFIG_FILE,
            path / LABELS_FILE,
            *path.glob("*.safetensors"),
            *path.glob(CHECKSUMS_FILE),
        ]
        try:
            states = [(file.name, file.stat()) for file in files]
        except OSError:  # no bundle; perhaps at this moment
            return cls(path, frozenset())
        return cls(path, frozenset((name, state.st_size, state.st_mtime_ns) for name, state in states))


class BundleWatch:
    """Owned by the main thread, which calls `look` every few seconds.

    What was found at birth is served. Something else is loaded once it has stood still from one look to the
    next; when it does not load, or is another model, that is said once and the one that serves goes on.
    """

    def __init__(self, folder: Path, load: Callable[[], Runner]) -> None:
        self._folder = folder
        self._load = load
        self._known = self._seen = FolderState.of(folder)
        self._loading: Future[Runner] | None = None

    def look(self, engine: Engine, pool: ImagePool, metrics: WorkerMetrics) -> None:
        """Begin to load what is new; hand over what is loaded."""
        if self._loading is None:
            if self._is_another_bundle():
                self._loading = in_a_thread_that_ends(self._load)
        elif self._loading.done():
            done, self._loading = self._loading, None
            if runner := loaded(done, pool.manifest.name):
                # In this order: what the pool loads for the new bundle reaches the engine after it.
                engine.inbox.put(Exchange(runner))
                pool.manifest = runner.manifest
                metrics.model_loaded()
                log.info("another bundle is loaded; it is next", model=runner.manifest.name)

    def _is_another_bundle(self) -> bool:
        before, self._seen = self._seen, FolderState.of(self._folder)
        if self._seen == self._known or self._seen != before:
            return False
        self._known = self._seen
        return True


def in_a_thread_that_ends(load: Callable[[], Runner]) -> Future[Runner]:
    """A runner to come.

    OpenMP keeps a team of threads for each thread that has ever computed. Beside the team of a thread that
    only watches, the engine's would not spin at its barriers but sleep, and take a third longer.
    """
    loading = ThreadPoolExecutor(1, thread_name_prefix="movq-loading")
    runner = loading.submit(load)
    loading.shutdown(wait=False)
    return runner


def loaded(done: Future[Runner], model: str) -> Runner | None:
    """The runner, when it has loaded and is of this model."""
    try:
        runner = done.result()
    except DeviceFault:
        raise
    except BundleError as error:
        log.error("the new bundle cannot be loaded; the old one goes on", error=str(error))  # noqa: TRY400
        return None
    except Exception:
        log.exception("the new bundle cannot be loaded; the old one goes on")
        return None
    if runner.manifest.name != model:
        name = runner.manifest.name
        log.error("the new bundle is of another name; the old one goes on", model=name, wanted=model)
        return None
    return runner
