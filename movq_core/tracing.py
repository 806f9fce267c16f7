"""Tracing: spans of what happens, where an operator collects them; nothing at all where nobody does.

A trace crosses processes as W3C `traceparent` text. OpenTelemetry is imported by `open_tracing` alone, and
only when an endpoint is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum

from movq_core.errors import TracingUnavailable

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")  # the first that is set
PROTOCOL = "http/protobuf"

Attributes = Mapping[str, str | int | float | bool]


class SpanKind(Enum):
    """OpenTelemetry's words."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """One that nobody collects."""

    @property
    def traceparent(self) -> str | None:
        """What a process that goes on with it is given; None where there is no trace."""
        return None

    def set(self, attributes: Attributes) -> None:
        """Say more of what happens."""

    def rename(self, name: str) -> None:
        """Call it otherwise, now that more is known."""

    def fail(self, error_type: str) -> None:
        """What happens has failed; `error_type` is a name, never a text that could tell too much."""


class Tracing:
    """What makes spans: none, as here, or OpenTelemetry's. Callable from any thread; never waits."""

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: str | None = None,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """A span as long as the block; `parent` is a traceparent, None the span that is open here.

        One in whose block something raises has failed.
        """
        del name, kind, parent, attributes
        return nullcontext(_NO_SPAN)

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
        """A span that is over, from `begun_s` to `ended_s` in Unix time; its traceparent."""
        del name, begun_s, ended_s, kind, parent, attributes, error_type
        return None

    def close(self) -> None:
        """Send what is not sent yet, in a moment or not at all."""


_NO_SPAN = Span()
NO_TRACING = Tracing()


def open_tracing(service_name: str, version: str, environ: Mapping[str, str]) -> Tracing:
    """Tracing as the standard OTEL_* variables want it; raises TracingUnavailable."""
    named = [name for name in ENDPOINTS if environ.get(name)]
    if not named or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_TRACING
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), PROTOCOL)
    if protocol != PROTOCOL:
        raise TracingUnavailable(f"Traces are sent as {PROTOCOL} (mostly to port 4318), not as {protocol}.")
    try:
        from movq_core.opentelemetry_tracing import OpenTelemetryTracing  # noqa: PLC0415 - an extra

        return OpenTelemetryTracing(service_name, version)
    except ModuleNotFoundError as error:
        raise TracingUnavailable(
            f"{named[0]} is set, but OpenTelemetry is not installed; pip install 'movq[tracing]' or unset it."
        ) from error
    except ValueError as error:  # one of its other variables
        raise TracingUnavailable(f"OpenTelemetry cannot start: {error}") from error
