"""The process: two of them, beside a store with old blobs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from movq_core.blobs import BlobStore
from tests.conftest import free_port

pytestmark = pytest.mark.slow


@contextmanager
def retention(log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m service.retention`."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "service.retention"]
        process = subprocess.Popen(command, env={**os.environ, **environment}, stderr=output)
    with process:
        try:
            yield process
        finally:
            process.kill()


def swept(log: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "swept"]


def until(true: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.05)


def test_two_of_them_take_turns_and_count_what_they_do(redis_url: str, tmp_path: Path) -> None:
    blobs, port = BlobStore(str(tmp_path / "blobs")), free_port()
    for number in range(150):
        key = blobs.put("images", f"{number}".encode() * 10, "png")
        if number:
            os.utime(tmp_path / "blobs" / key, (0, 0))
    settings = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_BLOBS_URL": str(tmp_path / "blobs"),
        "MOVQ_RETENTION_EVERY_S": "2",
    }
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with ExitStack() as stack:
        first = stack.enter_context(retention(logs[0], **settings, MOVQ_METRICS_PORT=str(port)))
        until(lambda: swept(logs[0]), "the first has swept")
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
            for sample in family.samples
        }
        assert values["movq_blobs_deleted_total", "age"] == 149
        assert values["movq_blobs", "images"] == 1
        assert values["movq_blobs_bytes", "images"] == 10
        assert time.time() - values["movq_retention_last_sweep_timestamp_seconds",] < 20
        assert values["movq_retention_errors_total",] == 0

        second = stack.enter_context(retention(logs[1], **settings))
        until(lambda: len(swept(logs[0])) + len(swept(logs[1])) >= 3, "they go on")
        first.kill()
        before = len(swept(logs[1]))
        until(lambda: len(swept(logs[1])) > before, "one goes on without the other")
        second.send_signal(signal.SIGTERM)
        assert second.wait(10) == 0
    at = sorted(str(line["timestamp"]) for log in logs for line in swept(log))
    seconds = [time.mktime(time.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S")) for moment in at]
    assert all(later - sooner >= 1 for sooner, later in pairwise(seconds)), at


def test_an_outage_is_counted_and_outlasted(redis_url: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with retention(log, MOVQ_REDIS_URL="redis://127.0.0.1:1/0", MOVQ_BLOBS_URL=str(tmp_path)) as process:
        until(lambda: "a sweep was not ended" in log.read_text(), "it says so")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MOVQ_JOB_TIMEOUT_S", "9999", "MOVQ_PREVIEW_AGE_S must not be below MOVQ_JOB_TIMEOUT_S"),
        ("MOVQ_BLOBS_URL", "nowhere://x", "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, variable: str, value: str, said: str) -> None:
    log = tmp_path / "log"
    with retention(log, **{"MOVQ_REDIS_URL": "redis://:hunter2@localhost/0", variable: value}) as process:
        assert process.wait(20) == 2
    assert said in log.read_text()
    assert "hunter2" not in log.read_text()
