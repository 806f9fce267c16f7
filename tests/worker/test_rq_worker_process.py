"""The worker as a process: what ends it, with which code, and what that does to its jobs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rq.job import JobStatus

from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest
from tests.worker.test_rq_worker import Shop, shop, until

__all__ = ["shop"]  # the fixture

pytestmark = pytest.mark.slow
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker process; stderr is its log."""
    started: list[subprocess.Popen[str]] = []

    def run(fault: str = "none", **environment: str) -> subprocess.Popen[str]:
        env = {
            **os.environ,
            "MOVQ_REDIS_URL": redis_url,
            "MOVQ_BLOBS_URL": str(tmp_path),
            "MOVQ_LEASE_S": "4",
            "MOVQ_RENEW_S": "1",
            **environment,
        }
        command = [sys.executable, "-m", "tests.worker.faulty_worker", fault]
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def request(seed: int, steps: int = 12) -> GenerateRequest:
    return GenerateRequest(sampling=SamplingParams(seed=seed, steps=steps))


def log_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def test_a_device_fault_ends_the_process_and_the_job_runs_elsewhere(shop: Shop, start: Start) -> None:
    job_id = shop.submit(request(seed=13), retries=2)
    faulty = start("device")
    assert faulty.wait(30) == 1
    assert "illegal memory access" in log_of(faulty)
    start("none")
    # Its device has no fault; it sleeps an hour on seed 13, so only the taking is waited for.
    until(lambda: shop.job(job_id).retries_left == 1, 30)


def test_a_job_that_kills_its_workers_fails_alone(shop: Shop, start: Start) -> None:
    """Those beside it have lost as many workers as it has; on its last try it runs alone."""
    neighbours = [shop.submit(request(seed=n, steps=60), retries=2) for n in range(5)]
    poison = shop.submit(request(seed=13), retries=2)
    neighbours += [shop.submit(request(seed=20 + n, steps=60), retries=2) for n in range(3)]
    for _ in range(3):
        assert start("device").wait(60) == 1
    start("device")
    until(shop.all_are([poison], JobStatus.FAILED), 30)
    until(shop.all_are(neighbours, JobStatus.FINISHED), 60)
    assert "no retry is left" in (shop.error(poison) or "")
    shop.assert_at_rest([poison, *neighbours])


def test_an_engine_without_steps_ends_the_process(shop: Shop, start: Start) -> None:
    shop.submit(request(seed=13))
    stalled = start("stall", MOVQ_STALLED_S="1")
    assert stalled.wait(30) == 1
    assert "the engine makes no steps" in log_of(stalled)


def test_the_first_signal_drains_and_the_second_ends_it_at_once(shop: Shop, start: Start) -> None:
    drained = start()
    job_id = shop.submit(request(seed=1, steps=50))
    until(shop.all_are([job_id], JobStatus.STARTED), 30)
    drained.send_signal(signal.SIGTERM)
    assert drained.wait(30) == 0
    assert shop.status(job_id) is JobStatus.FINISHED

    hurried = start("stall")
    shop.submit(request(seed=13))
    until(lambda: shop.started() == 1, 30)
    hurried.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert hurried.poll() is None
    hurried.send_signal(signal.SIGINT)
    assert hurried.wait(5) == 130


def test_it_waits_for_redis_and_can_be_told_to_stop_waiting(start: Start) -> None:
    waiting = start(MOVQ_REDIS_URL="redis://127.0.0.1:1/0")
    assert waiting.stderr is not None
    assert "waiting for redis" in waiting.stderr.readline()
    waiting.terminate()
    assert waiting.wait(10) == 0


def test_settings_that_cannot_be_are_told(start: Start) -> None:
    misconfigured = start(MOVQ_ROWS="0")
    assert misconfigured.wait(30) == 2
    assert log_of(misconfigured) == "MOVQ_ROWS is not valid: Input should be greater than or equal to 1.\n"


def test_an_address_that_cannot_be_is_told_without_its_password(start: Start) -> None:
    misconfigured = start(MOVQ_REDIS_URL="redis+sentinel://me:hunter2@somewhere")
    assert misconfigured.wait(30) == 2
    log = log_of(misconfigured)
    assert "MOVQ_REDIS_URL is not valid: name the service" in log
    assert "hunter2" not in log


def test_metrics_are_served(shop: Shop, start: Start, free_port: int) -> None:
    start(MOVQ_METRICS_PORT=str(free_port))
    job_id = shop.submit(request(seed=1))
    until(shop.all_are([job_id], JobStatus.FINISHED), 30)
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics") as answer:
        text = answer.read().decode()
    assert 'movq_jobs_completed_total{kind="generate",outcome="succeeded"} 1.0' in text
    assert 'movq_model_info{model="tiny"} 1.0' in text
    assert "movq_batch_rows_count 12.0" in text


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
