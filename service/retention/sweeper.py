"""Sweeper: sweeps now and then, of all processes one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from movq_core.blobs import BlobStore
from movq_core.errors import BlobStoreUnavailable, QueueUnavailable
from service.retention.metrics import RetentionMetrics
from service.retention.records import JobRecords
from service.retention.settings import RetentionSettings
from service.retention.sweep import Sweep

TRY_EVERY_S = 1.0
AFTER_ERROR_S = 10.0
PAUSE_S = 0.02  # between two chunks, for whoever else uses the store

log = structlog.get_logger("movq.retention")


class Interrupted(Exception):
    """The process is to stop: the sweep ends where it is."""


@dataclass(frozen=True)
class Sweeper:
    """What goes wrong with Redis or the store is told, counted and tried again."""

    blobs: BlobStore
    records: JobRecords
    settings: RetentionSettings
    metrics: RetentionMetrics
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `stop` is set."""
        while not self.stop.wait(TRY_EVERY_S):
            try:
                with self.records.turn(self.settings.retention_every_s) as keep_turn:
                    if keep_turn:
                        self._sweep(keep_turn)
            except Interrupted:
                return
            except (QueueUnavailable, BlobStoreUnavailable, OSError) as error:
                self.metrics.failed()
                log.warning("a sweep was not ended", error=str(error.__cause__ or error))
                self.stop.wait(AFTER_ERROR_S)

    def _sweep(self, keep_turn: Callable[[], None]) -> None:
        begun_s = time.monotonic()

        def go_on() -> None:
            if self.stop.wait(PAUSE_S):
                raise Interrupted
            keep_turn()

        sweep = Sweep(self.blobs, self.records, self.settings, go_on)
        try:
            sweep.run()
        finally:
            self.metrics.removed(sweep.removed)
        self.metrics.swept(sweep.stored)
        log.info(
            "swept",
            removed=dict(sweep.removed.files),
            removed_bytes=sweep.removed.size_bytes.total(),
            stored=sweep.stored.files.total(),
            stored_bytes=sweep.stored.size_bytes.total(),
            took_s=round(time.monotonic() - begun_s, 3),
        )
