"""Metrics: one registry an app, in Prometheus' words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from movq_core.errors import QueueUnavailable
from service.jobs import JobStore

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters that the app feeds, and gauges that are read from Redis at each scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "movq_http_requests",
            "HTTP requests answered.",
            ("route", "method", "code"),
            registry=self.registry,
        )
        self.duration_s = Histogram(
            "movq_http_request_duration_seconds",
            "Time from the request line to the last byte of the answer.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.submitted = Counter(
            "movq_jobs_submitted", "Jobs accepted.", ("model", "kind"), registry=self.registry
        )
        self.rejected = Counter("movq_jobs_rejected", "Jobs refused.", ("reason",), registry=self.registry)
        self.listeners = Gauge("movq_event_listeners", "Open streams of events.", registry=self.registry)
        self._queue_depth = self._gauge("movq_queue_depth", "Images waiting for a worker.")
        self._in_flight = self._gauge("movq_jobs_in_flight", "Jobs that workers hold.")
        self._images_in_flight = self._gauge("movq_images_in_flight", "Images of the jobs that workers hold.")
        self._workers = self._gauge("movq_workers", "Workers heard from lately.")
        self._redis_up = Gauge("movq_redis_up", "1 when Redis answered this scrape.", registry=self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, ("model",), registry=self.registry)

    async def scrape(self, jobs: JobStore, models: Sequence[str]) -> bytes:
        """The exposition text. When Redis is away, what it would tell is NaN and `movq_redis_up` is 0."""
        try:
            for model in models:
                await self._read(jobs, model)
        except QueueUnavailable:
            self._redis_up.set(0)
            for model in models:
                for gauge in (self._queue_depth, self._in_flight, self._images_in_flight, self._workers):
                    gauge.labels(model).set(math.nan)
        else:
            self._redis_up.set(1)
        return generate_latest(self.registry)

    async def _read(self, jobs: JobStore, model: str) -> None:
        load, workers = await jobs.load(model), await jobs.workers(model)
        self._queue_depth.labels(model).set(load.queued_images)
        self._in_flight.labels(model).set(load.running_jobs)
        self._images_in_flight.labels(model).set(load.running_images)
        self._workers.labels(model).set(workers)
