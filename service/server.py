"""Server: uvicorn, with what it leaves to a proxy: clients that dawdle, endless headers, too many at once.

A request's body is looked after by `body_limit`, which can answer in words.
"""

from __future__ import annotations

import asyncio
import json
import resource
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.problems import MEDIA_TYPE, Problem
from service.settings import Settings

SHUTDOWN_S = 5  # for those who wait for a job; it stays on the queue
MAX_HEADER_BYTES = 32 * 1024  # the request line among them
OWN_FILES = 128  # open ones beside connections: the blobs, the page, the log, Redis' for the door
IMPOLITE = 64  # connections beyond the limit that still get an answer


class WaryProtocol(HttpToolsProtocol):
    """One connection. It has `patience_s` for a request's headers, from its beginning or their first byte.

    The headers may have MAX_HEADER_BYTES. Both are said in an answer, and the connection is closed.
    """

    def __init__(self, *args: Any, patience_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience_s = patience_s
        self._reads_headers = True
        self._header_bytes = 0
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency + IMPOLITE:
            transport.abort()
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._reads_headers:
            self._header_bytes += len(data)
            if self._late is None:
                self._await_headers()
        super().data_received(data)
        if self._reads_headers and self._header_bytes > MAX_HEADER_BYTES:
            self._refuse_headers()

    def on_headers_complete(self) -> None:
        self._await_no_more()
        self._reads_headers, self._header_bytes = False, 0
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER_BYTES:
            self._refuse_headers()
            raise ValueError("the headers are too large")  # so that the parser stops
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reads_headers = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer of the shape that all errors have."""
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", msg)

    def _unsupported_upgrade_warning(self) -> None:
        """To another protocol: not here, and no reason to warn. The request is answered as it is."""

    def _await_headers(self) -> None:
        self._late = self.loop.call_later(self._patience_s, self._on_late)

    def _await_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _on_late(self) -> None:
        if self._is_answering():  # the next request may wait for the answer to this one
            self._await_headers()
            return
        detail = f"The request's headers were not there within {self._patience_s:g} s."
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail)

    def _refuse_headers(self) -> None:
        detail = f"The request's line and headers may have {MAX_HEADER_BYTES // 1024} KiB together."
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        """Say it, unless half of another answer is out, and close."""
        has_begun = self._is_answering() and self.cycle.response_started
        if not (self.transport.is_closing() or has_begun):
            self.transport.write(_answer(status, code, detail))
        self.transport.close()


def _answer(status: HTTPStatus, code: str, detail: str) -> bytes:
    body = json.dumps(
        Problem(title=status.phrase, status=status, code=code, detail=detail).model_dump(exclude_none=True)
    ).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: {MEDIA_TYPE}\r\n"
        f"content-length: {len(body)}\r\n"
        "cache-control: no-store\r\n"
        "x-content-type-options: nosniff\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def server_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told, beside the address."""
    return {
        "http": partial(WaryProtocol, patience_s=settings.client_patience_s),
        "ws": "none",
        "limit_concurrency": _max_connections(settings),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "reset_contextvars": True,  # a request's id is no other request's
        "timeout_graceful_shutdown": SHUTDOWN_S,
    }


def _max_connections(settings: Settings) -> int:
    """Beyond them callers read 503: as many as files may be open, less those that we need ourselves."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(16, hard - OWN_FILES - IMPOLITE - settings.max_queue_images)
