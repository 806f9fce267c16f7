"""`python -m worker`: the only place that wires a worker, and its watching main thread.

Exit codes: 0 drained on request; 1 something died and the supervisor should start another worker;
2 this worker can never start as it is configured; 130 a second signal said "at once".
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from types import FrameType

import structlog
from pydantic import ValidationError

from movq_core.blobs import BlobStore
from movq_core.environment import complaint
from movq_core.errors import BundleError, QueueUnavailable, TracingUnavailable
from movq_core.logs import configure_logs
from movq_core.tracing import open_tracing
from worker.bundle_watch import BundleWatch, in_a_thread_that_ends
from worker.engine import Engine
from worker.intake import Intake
from worker.metrics import WorkerMetrics
from worker.model_runner import ModelRunner
from worker.pool import ImagePool
from worker.rq_worker import RQWorker, connect
from worker.settings import WorkerSettings

DIED, MISCONFIGURED, INTERRUPTED = 1, 2, 130
WATCH_EVERY_S = 0.25
LOOK_EVERY_S = 2.0  # for another bundle
RECONNECT_EVERY_S = 1.0

log = structlog.get_logger("movq.worker")


class StopSignal:
    """The first SIGTERM or SIGINT asks to drain; a second one ends the process at once.

    At once is safe: the leases run out, and what was in flight runs elsewhere.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.asked.is_set():
            os._exit(INTERRUPTED)
        self.asked.set()


def main() -> int:
    """Load the model, then serve the queue until told to stop."""
    try:
        settings = WorkerSettings(_secrets_dir=os.environ.get("MOVQ_SECRETS_DIR"))
    except ValidationError as error:
        sys.stderr.write(f"{complaint(error)}\n")
        return MISCONFIGURED
    try:
        tracing = open_tracing("movq-worker", version("movq"), os.environ)
    except TracingUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return MISCONFIGURED
    configure_logs(settings.log_level)
    # Where torch's compiler looks for what it has built before, unless somebody said otherwise.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.cache_dir.absolute() / "compiled"))
    stop = StopSignal()
    load = partial(load_runner, settings)
    bundles = BundleWatch(settings.model_dir, load)
    try:
        runner = in_a_thread_that_ends(load).result()
    except BundleError as error:
        log.critical("the model cannot be loaded", error=str(error))
        return MISCONFIGURED
    metrics = WorkerMetrics(model=runner.manifest.name, rows=settings.rows, version=version("movq"))
    if settings.metrics_port:
        metrics.serve(settings.metrics_port, settings.metrics_host)
    worker = open_worker(settings, runner.manifest.name, stop)
    if worker is None:
        return 0
    engine = Engine(runner, settings.rows, metrics, previews=settings.previews)
    pool = ImagePool(BlobStore(settings.blobs_url), runner.manifest, metrics, settings.pool_threads)
    intake = Intake(
        worker,
        pool,
        engine.inbox,
        engine.outbox,
        metrics,
        credits=settings.rows + settings.prefetch,
        renew_s=settings.renew_s,
        grace_s=settings.grace_s,
        tracing=tracing,
    )
    metrics.watch_memory(engine.memory_bytes)
    engine.start()
    intake.start()
    log.info("ready", model=runner.manifest.name, rows=settings.rows, name=worker.name)
    del runner  # it is the engine's, which lets go of it when another comes
    code = watch(engine, intake, stop, settings.stalled_s, partial(bundles.look, engine, pool, metrics))
    engine.stop(timeout_s=5.0)
    pool.close()
    tracing.close()
    return code


def load_runner(settings: WorkerSettings) -> ModelRunner:
    """The model, loaded, warmed and checked; raises BundleError."""
    runner = ModelRunner(
        settings.model_dir,
        settings.rows,
        settings.device,
        precision=settings.precision,
        deterministic=settings.deterministic,
        cache_dir=settings.cache_dir,
    )
    if not runner.is_batch_invariant():
        log.warning(
            "on this machine an image may depend on its company: not exact, though close",
            deterministic=settings.deterministic,
        )
    return runner


def open_worker(settings: WorkerSettings, model: str, stop: StopSignal) -> RQWorker | None:
    """A registered worker, once Redis is there; None when we were told to stop before."""
    while not stop.asked.wait(0):
        try:
            worker = connect(settings.redis_url, model, lease_s=settings.lease_s)
            worker.open()
        except QueueUnavailable as error:
            log.warning("waiting for redis", error=str(error))
            stop.asked.wait(RECONNECT_EVERY_S)
        else:
            return worker
    return None


def watch(
    engine: Engine, intake: Intake, stop: StopSignal, stalled_s: float, look: Callable[[], None]
) -> int:
    """Wait for the drain to end; leaves the process when a thread that must live does not.

    Meanwhile `look` now and then for another bundle.

    A dead engine is not shut down politely: its device may be in any state, and what hangs in it
    would hang us. The leases run out, and each job in flight spends a retry, for one may be the cause.
    """
    look_at_s = time.monotonic() + LOOK_EVERY_S
    while intake.is_alive():
        intake.join(WATCH_EVERY_S)
        if stop.asked.is_set():
            intake.drain()
        elif time.monotonic() >= look_at_s:
            look()
            look_at_s = time.monotonic() + LOOK_EVERY_S
        if not engine.is_alive():
            log.critical("the engine died", exc_info=engine.error)
            os._exit(DIED)
        silent_s = time.monotonic() - engine.last_progress_s
        if silent_s > stalled_s:
            log.critical("the engine makes no steps", silent_s=round(silent_s, 1))
            os._exit(DIED)
    return 0 if stop.asked.is_set() else DIED


if __name__ == "__main__":
    sys.exit(main())
