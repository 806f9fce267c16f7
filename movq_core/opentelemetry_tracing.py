"""OpenTelemetryTracing: spans by the official SDK, sent over OTLP/HTTP by a thread of its own.

The SDK reads the rest of OTEL_*: headers, sampler, batches, more attributes of the resource. A collector that
cannot be reached costs spans, and a line in the log a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from movq_core.tracing import Attributes, Span, SpanKind, Tracing

COMPLAIN_EVERY_S = 60.0
CLOSE_S = 2.0

_PROPAGATOR = TraceContextTextMapPropagator()


class OpenTelemetrySpan(Span):
    """One that is sent when it ends."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, Context()))
        return carrier.get("traceparent")

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error_type: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(trace.StatusCode.ERROR)


class OpenTelemetryTracing(Tracing):
    """Spans of one process; what it reads from the environment, OpenTelemetry's specification says."""

    def __init__(self, service_name: str, version: str) -> None:
        resource = Resource.create({SERVICE_NAME: service_name, SERVICE_VERSION: version})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("movq", version)
        _complain_seldom()

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        # An exception's text and traceback could tell too much: its type is enough here, the log has them.
        with self._tracer.start_as_current_span(
            name,
            _context_of(parent) if parent else None,
            trace.SpanKind[kind.value],
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as started:
            span = OpenTelemetrySpan(started)
            try:
                yield span
            except BaseException as error:
                span.fail(type(error).__name__)
                raise

    def record(
        self,
        name: str,
        begun_s: float,
        ended_s: float,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        attributes: Attributes | None = None,
        error_type: str | None = None,
    ) -> str | None:
        span = self._tracer.start_span(
            name,
            _context_of(parent),
            trace.SpanKind[kind.value],
            attributes,
            start_time=_nanoseconds(begun_s),
        )
        told = OpenTelemetrySpan(span)
        if error_type is not None:
            told.fail(error_type)
        span.end(_nanoseconds(max(begun_s, ended_s)))
        return told.traceparent

    def close(self) -> None:
        """Within `CLOSE_S` seconds: whoever stops a process does not wait for a collector."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_S)


def _context_of(traceparent: str | None) -> Context:
    """Of one that is nonsense, or missing, a context without a parent: a new trace begins."""
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _nanoseconds(unix_s: float) -> int:
    return int(unix_s * 1e9)


class _Seldom(logging.Filter):
    """Lets a line pass once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        del record
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + COMPLAIN_EVERY_S
        return True


def _complain_seldom() -> None:
    """Of the exporter: it tells each attempt of each batch."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())
