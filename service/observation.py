"""Observation: each request gets an id, a log line, a span and its place in the metrics."""

from __future__ import annotations

import logging
import re
import time
import uuid
from contextlib import AbstractContextManager

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from movq_core.tracing import NO_TRACING, Span, SpanKind, Tracing
from service.metrics import Metrics
from service.problems import REQUEST_ID_HEADER, REQUEST_ID_KEY

MAX_PATH = 200  # of a path in a log line or a span, in characters

_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_UNMATCHED = "unmatched"  # one label for every path that is no route, however many there are
_PROBES = ("/livez", "/readyz", "/metrics")  # asked every few seconds, for ever
_FILES = ("/static/", "/docs/files/")

log = structlog.get_logger("movq.service")


class Observation:
    """ASGI middleware, the outermost of ours. A request that raises is counted as 500.

    The server logs its exception, with the request's id: what is bound here stays bound for its task.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID_KEY] = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 500
        started_s = time.perf_counter()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        with self._span(scope, request_id) as span:
            try:
                await self._app(scope, receive, observed_send)
            finally:
                self._record(scope, status, time.perf_counter() - started_s, span)

    def _span(self, scope: Scope, request_id: str) -> AbstractContextManager[Span]:
        """It goes on with the caller's trace, if he has one; no query and no header is told."""
        path = scope["path"]
        tracing = NO_TRACING if path in _PROBES or path.startswith(_FILES) else self._tracing
        return tracing.span(
            scope["method"],
            SpanKind.SERVER,
            parent=Headers(scope=scope).get("traceparent", ""),
            attributes={
                "http.request.method": scope["method"],
                "url.scheme": scope["scheme"],
                "url.path": path[:MAX_PATH],
                "movq.request_id": request_id,
            },
        )

    def _record(self, scope: Scope, status: int, duration_s: float, span: Span) -> None:
        route = getattr(scope.get("route"), "path", None) or _UNMATCHED
        method, path = scope["method"], scope["path"]
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.duration_s.labels(route, method).observe(duration_s)
        span.rename(f"{method} {route}")
        span.set({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.fail(str(status))
        log.log(
            logging.DEBUG if path in _PROBES and status < 400 else logging.INFO,
            "request",
            method=method,
            path=path[:MAX_PATH],
            route=route,
            status=status,
            duration_s=round(duration_s, 4),
        )


def _request_id(scope: Scope) -> str:
    """The caller's own id when it is a plain one, so that logs can be joined; else a fresh one."""
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
