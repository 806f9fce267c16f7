"""Metrics: one registry an app, in Prometheus' words."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from movq_core.blobs import BlobStore
from service.jobs import JobStore
from service.queue_gauges import QueueGauges

REJECTED = ("queue_full", "too_many_requests", "idempotency_conflict", "queue_unavailable")
UPLOAD_REFUSED = ("refused", "timeout", "died")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters that the app feeds, and gauges that are read at each scrape.

    No job id, no key and nothing that a caller wrote ever becomes a label.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "movq_http_requests", "HTTP requests answered", ("route", "method", "code"), registry=registry
        )
        self.duration_s = Histogram(
            "movq_http_request_duration_seconds",
            "Time from the request line to the last byte of the answer",
            ("route", "method"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.submitted = Counter(
            "movq_jobs_submitted", "Jobs accepted", ("model", "kind", "priority"), registry=registry
        )
        self.rejected = Counter(
            "movq_jobs_rejected",
            "Jobs refused at the door",
            ("reason",),
            registry=registry,
        )
        self._uploads_refused = Counter(
            "movq_uploads_refused", "Uploads that could not be decoded", ("reason",), registry=registry
        )
        # A series that begins at 1 would hide its first event from Prometheus' increase().
        for reason in REJECTED:
            self.rejected.labels(reason)
        for reason in UPLOAD_REFUSED:
            self._uploads_refused.labels(reason)
        self.listeners = Gauge("movq_event_listeners", "Open streams of events", registry=registry)
        Gauge("movq_build_info", "1", ("version",), registry=registry).labels(version("movq")).set(1)
        self._models = Gauge("movq_model_info", "1 a model that is served", ("model",), registry=registry)
        self._free = Gauge(
            "movq_blobs_free_bytes",
            "Free space of the folder of blobs",
            ("store",),
            registry=registry,
        )
        self._queue = QueueGauges(registry)

    def upload_refused(self, reason: str) -> None:
        """An upload was refused, took too long, or ended its decoder."""
        self._uploads_refused.labels(reason).inc()

    async def scrape(self, jobs: JobStore, blobs: BlobStore, models: Sequence[str]) -> bytes:
        """The exposition text. When Redis is away, what it would tell is absent and `movq_redis_up` is 0."""
        for model in models:
            self._models.labels(model).set(1)
        if (free_bytes := blobs.free_bytes()) is not None:
            self._free.labels("folder").set(free_bytes)
        await self._queue.read(jobs, models)
        return generate_latest(self.registry)
