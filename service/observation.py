"""Observation: each request gets an id, a log line and its place in the metrics."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import REQUEST_ID_HEADER, REQUEST_ID_KEY

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
_UNMATCHED = "unmatched"  # one label for every path that is no route, however many there are

log = structlog.get_logger("service")


class Observation:
    """ASGI middleware, the outermost of ours. A request that raises is counted as 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

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

        try:
            await self._app(scope, receive, observed_send)
        except Exception:
            log.exception("request failed", path=scope["path"])
            raise
        finally:
            self._record(scope, status, time.perf_counter() - started_s)
            structlog.contextvars.unbind_contextvars("request_id")

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", None) or _UNMATCHED
        method = scope["method"]
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.duration_s.labels(route, method).observe(duration_s)
        log.info(
            "request",
            method=method,
            path=scope["path"],
            route=route,
            status=status,
            duration_s=round(duration_s, 4),
        )


def _request_id(scope: Scope) -> str:
    """The caller's own id when it is a plain one, so that logs can be joined; else a fresh one."""
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
