"""RetentionMetrics: what one retention process counts, on its own registry and port."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from movq_core.blobs import FOLDERS
from service.retention.sweep import Tally


class RetentionMetrics:
    """The store as the last sweep found it, and what was removed; no key ever becomes a label."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._bytes = Gauge("movq_blobs_bytes", "Bytes in the blob store", ["folder"], registry=registry)
        self._count = Gauge("movq_blobs", "Blobs in the store", ["folder"], registry=registry)
        self._deleted = Counter("movq_blobs_deleted", "Blobs removed", ["reason"], registry=registry)
        self._deleted_bytes = Counter(
            "movq_blobs_deleted_bytes", "Bytes of blobs removed", ["reason"], registry=registry
        )
        self._swept = Gauge(
            "movq_retention_last_sweep_timestamp_seconds", "Unix time of the last sweep", registry=registry
        )
        self._errors = Counter("movq_retention_errors", "Sweeps that could not be ended", registry=registry)

    def serve(self, port: int, host: str) -> None:
        """Answer scrapes on `host:port` from a daemon thread; raises OSError when the port is taken."""
        start_http_server(port, addr=host, registry=self.registry)

    def removed(self, tally: Tally) -> None:
        """Files that went, by reason: their age, the store's size, or because they were never finished."""
        for reason, files in tally.files.items():
            self._deleted.labels(reason).inc(files)
            self._deleted_bytes.labels(reason).inc(tally.size_bytes[reason])

    def swept(self, stored: Tally) -> None:
        """A sweep came to its end; what is left, by folder."""
        for folder in FOLDERS:
            self._count.labels(folder).set(stored.files[folder])
            self._bytes.labels(folder).set(stored.size_bytes[folder])
        self._swept.set(time.time())

    def failed(self) -> None:
        """A sweep did not."""
        self._errors.inc()
