"""Panels: what each dashboard shows, as data. `generate` makes Grafana's JSON of it.

`$__rate_interval` is Grafana's; `$model` and `$instance` are the dashboards' variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PROBES = 'route!~"/metrics|/livez|/readyz"'  # what asks all the time says nothing of callers


@dataclass(frozen=True)
class Panel:
    """One picture: `queries` by legend (Grafana's `{{label}}`), in `unit` (Grafana's name of it)."""

    title: str
    description: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"  # or "stat"
    stacked: bool = False


@dataclass(frozen=True)
class Dashboard:
    """A page of panels. `variable`: the label that is chosen at its head, and a metric that has it."""

    name: str
    title: str
    panels: Sequence[Panel]
    variable: tuple[str, str]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Events a second, summed."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    """The q-quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'le, {by}' if by else 'le', where)})"


def quantiles(metric: str, where: str = "") -> dict[str, str]:
    return {f"p{q * 100:g}": quantile(q, metric, where=where) for q in (0.5, 0.95, 0.99)}


_HERE = 'instance=~"$instance"'
_MODEL = 'model=~"$model"'
_CALLERS = f"{_HERE}, {_PROBES}"
_FAILED = f'code=~"5..", {_CALLERS}'

SERVICE = Dashboard(
    "service",
    "movq: service",
    (
        Panel("Replicas", "Services that answer.", "short", {"up": 'sum(up{job="movq-service"})'}, "stat"),
        Panel(
            "Requests",
            "Callers' requests a second.",
            "reqps",
            {"requests": rate("movq_http_requests_total", where=_CALLERS)},
            "stat",
        ),
        Panel(
            "Errors",
            "Share of callers' requests that were answered 5xx.",
            "percentunit",
            {
                "5xx": f"({rate('movq_http_requests_total', where=_FAILED)} or vector(0)) / "
                + rate("movq_http_requests_total", where=_CALLERS)
            },
            "stat",
        ),
        Panel(
            "Listeners",
            "Open streams of events.",
            "short",
            {"listeners": f"sum(movq_event_listeners{{{_HERE}}})"},
            "stat",
        ),
        Panel(
            "Requests by code",
            "Rate: what callers were answered.",
            "reqps",
            {"{{code}}": rate("movq_http_requests_total", "code", _CALLERS)},
            stacked=True,
        ),
        Panel(
            "Duration",
            "From the request line to the last byte; a request that waits for its image lasts as long.",
            "s",
            quantiles("movq_http_request_duration_seconds", _CALLERS),
        ),
        Panel(
            "Requests by route",
            "Where they went.",
            "reqps",
            {"{{method}} {{route}}": rate("movq_http_requests_total", "method, route", _CALLERS)},
        ),
        Panel(
            "Duration by route, p95",
            "Nineteen of twenty requests are faster.",
            "s",
            {"{{route}}": quantile(0.95, "movq_http_request_duration_seconds", "route", _CALLERS)},
        ),
        Panel(
            "Jobs accepted",
            "By kind and priority.",
            "ops",
            {"{{kind}}, {{priority}}": rate("movq_jobs_submitted_total", "kind, priority", _HERE)},
            stacked=True,
        ),
        Panel(
            "Jobs refused",
            "queue_full and too_many_requests are answered 429.",
            "ops",
            {"{{reason}}": rate("movq_jobs_rejected_total", "reason", _HERE)},
        ),
        Panel(
            "Uploads refused",
            "refused: not an image that we take; timeout, died: what became of the decoder.",
            "ops",
            {"{{reason}}": rate("movq_uploads_refused_total", "reason", _HERE)},
        ),
        Panel(
            "Space for images",
            "Free space of the folder of blobs; nothing where they are in an object store.",
            "bytes",
            {"free": f"min(movq_blobs_free_bytes{{{_HERE}}})"},
        ),
    ),
    ("instance", 'up{job="movq-service"}'),
)

WORKER = Dashboard(
    "worker",
    "movq: workers",
    (
        Panel("Workers", "That answer Prometheus.", "short", {"up": 'sum(up{job="movq-worker"})'}, "stat"),
        Panel(
            "Images", "Stored, a second.", "ops", {"images": rate("movq_images_total", where=_HERE)}, "stat"
        ),
        Panel(
            "Batch fill",
            "Images in a step, as a share of the rows.",
            "percentunit",
            {
                "fill": f"{rate('movq_batch_rows_sum', where=_HERE)}"
                f" / {rate('movq_batch_rows_count', where=_HERE)}"
                f" / avg(movq_rows_total{{{_HERE}}})"
            },
            "stat",
        ),
        Panel(
            "Since the last step",
            "Of the worker that was longest without one; an idle worker makes none.",
            "s",
            {"age": f"time() - min(movq_worker_last_step_timestamp_seconds{{{_HERE}}} > 0)"},
            "stat",
        ),
        Panel(
            "Rows",
            "Images on the device, images that wait for a row, and rows in all.",
            "short",
            {
                "running": f"sum(movq_rows_running{{{_HERE}}})",
                "waiting": f"sum(movq_rows_waiting{{{_HERE}}})",
                "rows": f"sum(movq_rows_total{{{_HERE}}})",
            },
        ),
        Panel("Images in a step", "The batch.", "short", quantiles("movq_batch_rows", _HERE)),
        Panel("Step", "One step of the whole batch.", "s", quantiles("movq_step_duration_seconds", _HERE)),
        Panel(
            "Steps",
            "A second, of each worker.",
            "ops",
            {"{{instance}}": rate("movq_batch_rows_count", "instance", _HERE)},
        ),
        Panel(
            "Images by kind",
            "Stored, a second.",
            "ops",
            {"{{kind}}": rate("movq_images_total", "kind", _HERE)},
            stacked=True,
        ),
        Panel(
            "Previews",
            "Of watched images, a second.",
            "ops",
            {"previews": rate("movq_previews_total", where=_HERE)},
        ),
        Panel(
            "Decode", "Last step to pixels, an image.", "s", quantiles("movq_decode_duration_seconds", _HERE)
        ),
        Panel(
            "Encode, p95",
            "Pixels to bytes, an image.",
            "s",
            {"{{format}}": quantile(0.95, "movq_image_encode_seconds", "format", _HERE)},
        ),
        Panel(
            "Jobs by outcome",
            "How jobs ended at these workers.",
            "ops",
            {"{{outcome}}": rate("movq_jobs_completed_total", "outcome", _HERE)},
        ),
        Panel("Run", "Taken to finished, a job.", "s", quantiles("movq_job_run_seconds", _HERE)),
        Panel(
            "Redis errors",
            "Redis could not be reached, or refused.",
            "ops",
            {"{{instance}}": rate("movq_redis_errors_total", "instance", _HERE)},
        ),
        Panel(
            "Bundle loaded",
            "How long ago.",
            "s",
            {"{{instance}}": f"time() - max by (instance) (movq_model_loaded_timestamp_seconds{{{_HERE}}})"},
        ),
    ),
    ("instance", 'up{job="movq-worker"}'),
)

QUEUE = Dashboard(
    "queue",
    "movq: queue",
    (
        Panel(
            "Waiting",
            "Images.",
            "short",
            {"images": f"sum(max by (model, priority) (movq_queue_depth{{{_MODEL}}}))"},
            "stat",
        ),
        Panel(
            "In flight",
            "Images that workers hold.",
            "short",
            {"images": f"sum(max by (model) (movq_images_in_flight{{{_MODEL}}}))"},
            "stat",
        ),
        Panel(
            "Live workers",
            "Heard from lately.",
            "short",
            {"{{model}}": f"max by (model) (movq_workers{{{_MODEL}}})"},
            "stat",
        ),
        Panel("Redis", "1 when every service reaches it.", "short", {"up": "min(movq_redis_up)"}, "stat"),
        Panel(
            "Images that wait",
            "By model and priority.",
            "short",
            {"{{model}} {{priority}}": f"max by (model, priority) (movq_queue_depth{{{_MODEL}}})"},
            stacked=True,
        ),
        Panel(
            "Age of the first",
            "How long the first in each queue has waited so far.",
            "s",
            {
                "{{model}} {{priority}}": "max by (model, priority) "
                f"(movq_queue_oldest_age_seconds{{{_MODEL}}})"
            },
        ),
        Panel(
            "Jobs in flight",
            "That workers hold.",
            "short",
            {"{{model}}": f"max by (model) (movq_jobs_in_flight{{{_MODEL}}})"},
        ),
        Panel("Wait", "Enqueued to taken.", "s", quantiles("movq_job_queue_wait_seconds")),
        Panel(
            "End to end, p95",
            "Enqueued to finished, of jobs that succeeded.",
            "s",
            {"{{kind}}": quantile(0.95, "movq_job_e2e_seconds", "kind")},
        ),
        Panel(
            "In and out",
            "Jobs accepted, and jobs that came to an end.",
            "ops",
            {
                "accepted": rate("movq_jobs_submitted_total", where=_MODEL),
                "ended": rate("movq_jobs_completed_total", where='outcome!="retried"'),
            },
        ),
        Panel(
            "Recovered jobs",
            "lease, stranded: a lost worker's; exhausted: given up; handed_back: at an orderly stop.",
            "short",
            {"{{reason}}": "sum by (reason) (increase(movq_jobs_recovered_total[$__rate_interval]))"},
        ),
        Panel(
            "Leases lost",
            "Jobs dropped by a worker, for they are another's by now.",
            "short",
            {"lost": "sum(increase(movq_leases_lost_total[$__rate_interval]))"},
        ),
        Panel(
            "Redis memory",
            "Full, it refuses jobs.",
            "bytes",
            {"{{type}}": "max by (type) (movq_redis_memory_bytes)"},
        ),
        Panel(
            "Redis files",
            "1 while its writes to the disk go well.",
            "short",
            {"{{kind}}": "min by (kind) (movq_redis_persistence_ok)"},
        ),
    ),
    ("model", "movq_workers"),
)

GPU = Dashboard(
    "gpu",
    "movq: GPU",
    (
        Panel(
            "Memory",
            "allocated: live tensors; reserved: what torch holds for them; total: the card's.",
            "bytes",
            {"{{instance}} {{type}}": f"max by (instance, type) (movq_gpu_memory_bytes{{{_HERE}}})"},
        ),
        Panel(
            "Memory reserved",
            "As a share of the card.",
            "percentunit",
            {
                "{{instance}}": f'max by (instance) (movq_gpu_memory_bytes{{type="reserved", {_HERE}}})'
                f' / max by (instance) (movq_gpu_memory_bytes{{type="total", {_HERE}}})'
            },
        ),
        Panel(
            "Step by bucket, p50",
            "One step, by its images rounded up to a power of two.",
            "s",
            {"{{bucket}} images": quantile(0.5, "movq_step_duration_seconds", "bucket", _HERE)},
        ),
        Panel(
            "Time in steps",
            "Share of the time in which the device makes steps.",
            "percentunit",
            {"{{instance}}": rate("movq_step_duration_seconds_sum", "instance", _HERE)},
        ),
        Panel(
            "Steps by bucket",
            "A second.",
            "ops",
            {"{{bucket}} images": rate("movq_step_duration_seconds_count", "bucket", _HERE)},
            stacked=True,
        ),
        Panel(
            "Decode", "Last step to pixels, an image.", "s", quantiles("movq_decode_duration_seconds", _HERE)
        ),
    ),
    ("instance", 'up{job="movq-worker"}'),
)

DASHBOARDS = (SERVICE, WORKER, QUEUE, GPU)
