"""WorkerMetrics: what one worker process counts, on its own registry and port."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.core import GaugeMetricFamily, UntypedMetricFamily
from prometheus_client.registry import Collector

from movq_core.protocol import ImageFormat, JobKind

WAIT_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STEP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
RECOVERED = ("lease", "stranded", "exhausted", "handed_back")
OUTCOMES = ("succeeded", "failed", "retried", "stopped", "canceled")
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class _DeviceMemory(Collector):
    def __init__(self, memory_bytes: Callable[[], Mapping[str, int]]) -> None:
        self._memory_bytes = memory_bytes

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "movq_gpu_memory_bytes", "Memory of the card: allocated, reserved, total", labels=["type"]
        )
        for kind, size_bytes in self._memory_bytes().items():
            family.add_metric([kind], size_bytes)
        yield family


class _RowsTotal(Collector):
    """A gauge whose name ends as a counter's does, which Prometheus lets pass only without a type."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        yield UntypedMetricFamily("movq_rows_total", "Rows of the batch", self._rows)


class WorkerMetrics:
    """Counters of one worker; safe to call from any thread.

    No job id and nothing that a caller wrote ever becomes a label.
    """

    def __init__(self, *, model: str = "", rows: int = 0, version: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        self._rows_running = Gauge("movq_rows_running", "Images on the device", registry=registry)
        self._rows_waiting = Gauge("movq_rows_waiting", "Images that wait for a row", registry=registry)
        registry.register(_RowsTotal(rows))
        self._batch_rows = Histogram(
            "movq_batch_rows", "Images in a step", buckets=ROW_BUCKETS, registry=registry
        )
        self._step_s = Histogram(
            "movq_step_duration_seconds",
            "One step, by its rows rounded up to a power of two",
            ["bucket"],
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._step_s_by_bucket: dict[int, Histogram] = {}
        self._decode_s = Histogram(
            "movq_decode_duration_seconds",
            "Last step to pixels, one image",
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._encode_s = Histogram(
            "movq_image_encode_seconds",
            "Pixels to bytes, one image",
            ["format"],
            buckets=STEP_BUCKETS_S,
            registry=registry,
        )
        self._images = Counter("movq_images", "Images stored", ["kind"], registry=registry)
        self._previews = Counter("movq_previews", "Previews stored", registry=registry)
        self._completed = Counter(
            "movq_jobs_completed", "Jobs that ended here", ["kind", "outcome"], registry=registry
        )
        self._recovered = Counter(
            "movq_jobs_recovered", "Jobs put back or failed for a lost worker", ["reason"], registry=registry
        )
        # A series that begins at 1 would hide its first event from Prometheus' increase().
        for reason in RECOVERED:
            self._recovered.labels(reason)
        for kind in JobKind:
            for outcome in OUTCOMES:
                self._completed.labels(kind.value, outcome)
        self._queue_wait_s = Histogram(
            "movq_job_queue_wait_seconds",
            "Enqueued to taken",
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self._run_s = Histogram(
            "movq_job_run_seconds", "Taken to finished", buckets=WAIT_BUCKETS_S, registry=registry
        )
        self._e2e_s = Histogram(
            "movq_job_e2e_seconds",
            "Enqueued to finished, of jobs that succeeded",
            ["kind"],
            buckets=WAIT_BUCKETS_S,
            registry=registry,
        )
        self._leases_lost = Counter(
            "movq_leases_lost", "Jobs dropped because another worker owns them", registry=registry
        )
        self._redis_errors = Counter(
            "movq_redis_errors", "Redis could not be reached or refused", registry=registry
        )
        self._last_step = Gauge(
            "movq_worker_last_step_timestamp_seconds", "Unix time of the last step", registry=registry
        )
        Gauge("movq_build_info", "1", ["version"], registry=registry).labels(version).set(1)
        Gauge("movq_model_info", "1", ["model"], registry=registry).labels(model).set(1)
        self._model_loaded = Gauge(
            "movq_model_loaded_timestamp_seconds", "Unix time when the bundle was loaded", registry=registry
        )
        self.model_loaded()

    def serve(self, port: int, host: str) -> None:
        """Answer scrapes on `host:port` from a daemon thread; raises OSError when the port is taken."""
        start_http_server(port, addr=host, registry=self.registry)

    def watch_memory(self, memory_bytes: Callable[[], Mapping[str, int]]) -> None:
        """Tell what the device's memory holds, asked at each scrape; nothing where it tells nothing."""
        self.registry.register(_DeviceMemory(memory_bytes))

    def model_loaded(self) -> None:
        """A bundle is ready: the first, or one in its place."""
        self._model_loaded.set(time.time())

    def step(self, rows: int, seconds: float) -> None:
        """The engine ran one step over `rows` images."""
        self._batch_rows.observe(rows)
        self._step_s_of(1 << max(0, rows - 1).bit_length()).observe(seconds)
        self._last_step.set(time.time())

    def _step_s_of(self, bucket: int) -> Histogram:
        """Kept by number: prometheus_client's own look-up costs as much as all the rest between two steps."""
        if bucket not in self._step_s_by_bucket:
            self._step_s_by_bucket[bucket] = self._step_s.labels(str(bucket))
        return self._step_s_by_bucket[bucket]

    def decoded(self, seconds: float) -> None:
        """An image had its pixels `seconds` after its last step."""
        self._decode_s.observe(seconds)

    def rows(self, running: int, waiting: int) -> None:
        """Images on the device, and images that wait for a row."""
        self._rows_running.set(running)
        self._rows_waiting.set(waiting)

    def encoded(self, image_format: ImageFormat, seconds: float) -> None:
        """One image became bytes."""
        self._encode_s.labels(image_format.value).observe(seconds)

    def stored(self, kind: JobKind, images: int) -> None:
        """`images` images of one job are in the blob store."""
        self._images.labels(kind.value).inc(images)

    def previewed(self) -> None:
        """A preview of a watched image is in the blob store."""
        self._previews.inc()

    def taken(self, waited_s: float) -> None:
        """A job was taken from the queue."""
        self._queue_wait_s.observe(max(0.0, waited_s))

    def completed(self, kind: str, outcome: str, ran_s: float, waited_s: float) -> None:
        """A job came to its end here: succeeded, failed, retried, stopped or canceled."""
        self._completed.labels(kind, outcome).inc()
        self._run_s.observe(ran_s)
        if outcome == "succeeded":
            self._e2e_s.labels(kind).observe(max(0.0, waited_s) + ran_s)

    def recovered(self, reason: str, jobs: int = 1) -> None:
        """Jobs of a lost worker were put back or given up."""
        self._recovered.labels(reason).inc(jobs)

    def lease_lost(self) -> None:
        """A row was dropped because its lease belongs to someone else now."""
        self._leases_lost.inc()

    def redis_error(self) -> None:
        """Redis could not be reached, or refused a write."""
        self._redis_errors.inc()
