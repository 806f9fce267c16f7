"""Metrics: named as Prometheus wants it, described in docs/metrics.md, and labelled with little."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.deploy.exposition import names, registries
from tests.deploy.promtool import needs_promtool, promtool

TABLE = Path(__file__).parents[2] / "docs" / "metrics.md"
PROMISED = {
    "movq_http_requests_total",
    "movq_http_request_duration_seconds",
    "movq_jobs_submitted_total",
    "movq_jobs_completed_total",
    "movq_jobs_rejected_total",
    "movq_jobs_recovered_total",
    "movq_queue_depth",
    "movq_queue_oldest_age_seconds",
    "movq_job_queue_wait_seconds",
    "movq_job_run_seconds",
    "movq_job_e2e_seconds",
    "movq_rows_running",
    "movq_rows_total",
    "movq_batch_rows",
    "movq_step_duration_seconds",
    "movq_decode_duration_seconds",
    "movq_image_encode_seconds",
    "movq_images_total",
    "movq_leases_lost_total",
    "movq_redis_errors_total",
    "movq_gpu_memory_bytes",
    "movq_worker_last_step_timestamp_seconds",
    "movq_build_info",
    "movq_model_info",
}


@needs_promtool
@pytest.mark.parametrize("process", registries())
def test_prometheus_has_nothing_to_say_against(process: str) -> None:
    promtool("check", "metrics", text=generate_latest(registries()[process]).decode())


def test_all_that_was_promised_is_there() -> None:
    assert set().union(*names().values()) >= PROMISED


def test_the_table_has_every_metric_and_no_other() -> None:
    told = {
        process: set(re.findall(r"^\| `(movq_\w+)", section, re.MULTILINE))
        for process, section in re.findall(
            r"^## The (\w+)\n(.*?)(?=^## |\Z)", TABLE.read_text(), re.MULTILINE | re.DOTALL
        )
    }
    assert told == names()
