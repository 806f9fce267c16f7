"""Tracing: nothing where nobody asks for it, a clear word where it cannot be, no harm by a dead collector."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from movq_core.errors import TracingUnavailable
from movq_core.tracing import NO_TRACING, SpanKind, open_tracing
from tests.conftest import free_port

PROCESSES = "service.app, service.__main__, service.webhooks.__main__, worker.account, worker.rq_worker"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_without_an_endpoint_no_exporter_is_even_imported() -> None:
    """FastAPI brings the API and imports it, and redis-py looks for the SDK; they do nothing."""
    code = f"""
import os, sys, {PROCESSES}
from movq_core.tracing import open_tracing
with open_tracing("movq-test", "1", os.environ).span("a") as span:
    assert span.traceparent is None
ours = ("opentelemetry.exporter", "movq_core.opentelemetry_tracing")
sys.exit(any(name.startswith(ours) for name in sys.modules))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_off_it_costs_next_to_nothing() -> None:
    begun_s = time.perf_counter()
    for _ in range(10_000):
        with NO_TRACING.span("a", SpanKind.SERVER, attributes={"b": 1}):
            pass
        NO_TRACING.record("a", 0.0, 1.0)
    assert (time.perf_counter() - begun_s) / 10_000 < 50e-6  # about 1 us; the limit is for busy machines


def test_an_endpoint_without_the_extra_is_said() -> None:
    code = """
import sys
sys.modules["opentelemetry.exporter"] = None  # as if it were not installed
import service.__main__
sys.exit(service.__main__.main())
"""
    done = run(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318")
    assert done.returncode == 1
    assert "pip install 'movq[tracing]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_protocol_is_refused() -> None:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    with pytest.raises(TracingUnavailable, match="http/protobuf"):
        open_tracing("movq-test", "1", variables)


def test_a_dead_collector_harms_nobody_and_is_complained_of_once() -> None:
    code = """
import json, os, time
from movq_core.logs import configure_logs
from movq_core.tracing import open_tracing
configure_logs("INFO")
tracing = open_tracing("movq-test", "1", os.environ)
begun_s = time.perf_counter()
for _ in range(5000):
    with tracing.span("a") as span:
        assert span.traceparent
    tracing.record("b", 1.0, 2.0, parent=span.traceparent)
each_us = (time.perf_counter() - begun_s) / 10000 * 1e6
time.sleep(3)
begun_s = time.perf_counter()
tracing.close()
print(json.dumps({"each_us": each_us, "close_s": time.perf_counter() - begun_s}))
"""
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = run(code, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="50")
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["close_s"] < 4
    assert cost["each_us"] < 2000
    assert len(done.stderr.splitlines()) <= 2, done.stderr


@pytest.mark.parametrize(
    "given", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\x1b[31m", "x" * 5000]
)
def test_a_callers_nonsense_begins_a_trace_of_its_own(given: str) -> None:
    code = """
import os, sys
from movq_core.tracing import open_tracing
with open_tracing("movq-test", "1", os.environ).span("a", parent=sys.stdin.read()) as span:
    print(span.traceparent)
os._exit(0)
"""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=endpoint, input=given, capture_output=True, text=True, check=True
    )
    version, trace_id, span_id, flags = done.stdout.strip().split("-")
    assert (version, len(trace_id), len(span_id)) == ("00", 32, 16)
    assert int(trace_id, 16)
    assert int(flags, 16) & 1  # it is collected
