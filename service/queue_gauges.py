"""QueueGauges: what Redis tells at each scrape; every replica of the service tells the same."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge

from movq_core.errors import QueueUnavailable
from movq_core.protocol import Priority
from service.jobs import JobStore


class QueueGauges:
    """Read anew at each scrape, and changed by nobody else. While Redis is away they are absent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, meaning, labels, registry=registry)

        by_queue, by_model = ("model", "priority"), ("model",)
        self._depth = gauge("movq_queue_depth", "Images that wait for a worker", by_queue)
        self._oldest_s = gauge(
            "movq_queue_oldest_age_seconds", "Time since the first in the queue was enqueued", by_queue
        )
        self._jobs = gauge("movq_jobs_in_flight", "Jobs that workers hold", by_model)
        self._images = gauge("movq_images_in_flight", "Images of the jobs that workers hold", by_model)
        self._workers = gauge("movq_workers", "Workers heard from lately", by_model)
        self._memory = gauge(
            "movq_redis_memory_bytes", "Memory of Redis: used, and max where it has a bound", ("type",)
        )
        self._saving = gauge(
            "movq_redis_persistence_ok", "1 when each kind's last write to the disk went well", ("kind",)
        )
        self._up = gauge("movq_redis_up", "1 when Redis answered this scrape")

    async def read(self, jobs: JobStore, models: Sequence[str]) -> None:
        """Ask Redis; it never raises QueueUnavailable, for that is news, too."""
        try:
            for model in models:
                await self._read_model(jobs, model)
            await self._read_redis(jobs)
        except QueueUnavailable:
            self._forget()
            self._up.set(0)
        else:
            self._up.set(1)

    async def _read_model(self, jobs: JobStore, model: str) -> None:
        load, oldest_s = await jobs.load(model), await jobs.oldest_s(model)
        for priority in Priority:
            self._depth.labels(model, priority.value).set(load.queued[priority].images)
            self._oldest_s.labels(model, priority.value).set(oldest_s[priority])
        self._jobs.labels(model).set(load.running_jobs)
        self._images.labels(model).set(load.running_images)
        self._workers.labels(model).set(await jobs.workers(model))

    async def _read_redis(self, jobs: JobStore) -> None:
        state = await jobs.redis_state()
        self._memory.labels("used").set(state.used_bytes)
        if state.max_bytes:
            self._memory.labels("max").set(state.max_bytes)
        for kind, is_ok in state.saved.items():
            self._saving.labels(kind).set(is_ok)

    def _forget(self) -> None:
        for gauge in (
            self._depth,
            self._oldest_s,
            self._jobs,
            self._images,
            self._workers,
            self._memory,
            self._saving,
        ):
            gauge.clear()
