"""What the processes tell Prometheus, before anything has happened in them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.retention.metrics import RetentionMetrics
from worker.metrics import WorkerMetrics


def registries() -> dict[str, CollectorRegistry]:
    """One of each process; the worker's has a card."""
    worker = WorkerMetrics(model="tiny", rows=2, version="1")
    worker.watch_memory(lambda: {"allocated": 1, "reserved": 2, "total": 3})
    return {
        "service": Metrics().registry,
        "worker": worker.registry,
        "retention": RetentionMetrics().registry,
    }


def names() -> dict[str, set[str]]:
    """Of the metrics, by process, as `# TYPE` has them."""
    return {
        process: {
            line.split()[2]
            for line in generate_latest(registry).decode().splitlines()
            if line.startswith("# TYPE") and not line.split()[2].endswith("_created")
        }
        for process, registry in registries().items()
    }


def names_told() -> set[str]:
    """All of the names that a query may ask for: histograms have three."""
    told = set()
    for registry in registries().values():
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            ends = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
            total = "_total" if family.type == "counter" else ""
            told |= {f"{family.name}{total}{end}" for end in ends}
    return told
