"""A collector of traces: a real OTLP/HTTP receiver, which keeps the spans that it was sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Collected:
    """One span, as it came over the wire; times in seconds of Unix time."""

    process: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begun_s: float
    ended_s: float
    attributes: dict[str, Any]
    failed: bool


@dataclass
class Collector:
    port: int
    spans: list[Collected] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def trace(self, trace_id: str) -> list[Collected]:
        return sorted((s for s in self.spans if s.trace_id == trace_id), key=lambda span: span.begun_s)

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            process = _attributes(resource.resource.attributes)["service.name"]
            self.spans += [_collected(process, s) for scope in resource.scope_spans for s in scope.spans]


def tree(spans: list[Collected]) -> str:
    """As lines: when it began and how long it took in milliseconds, where, and what; children below."""
    zero_s = min(span.begun_s for span in spans)
    known = {span.span_id for span in spans}

    def lines(parent_id: str | None, depth: int) -> Iterator[str]:
        for span in spans:
            if span.parent_id == parent_id or (parent_id is None and span.parent_id not in known):
                begun_ms, took_ms = 1000 * (span.begun_s - zero_s), 1000 * (span.ended_s - span.begun_s)
                name = "  " * depth + span.name
                yield f"{begun_ms:8.1f} {took_ms:8.1f}  {span.process:14}  {name}"
                yield from lines(span.span_id, depth + 1)

    return "\n".join(lines(None, 0))


def _collected(process: str, span: Any) -> Collected:
    return Collected(
        process,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        _attributes(span.attributes),
        span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of the kernel's choice, for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
