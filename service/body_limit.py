"""BodyLimit: no body is read beyond its limit, nor all together beyond theirs, nor waited for without end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import CodedHTTPException, http_problem

DRAIN_S = 2.0
MAX_SMALL_BYTES = 64 * 1024  # a generation's fields take two
SLOWEST_BYTES_PER_S = 16 * 1024  # who is slower uses up our patience
FULL_RETRY_S = 2


class BodyLimit:
    """ASGI middleware: 413 by Content-Length before a byte is read, else once the count is over; 408; 503.

    `max_held_bytes`: of the bodies of all requests that are not answered yet; beyond it is 503.

    Bodies of the `small` paths are parsed on the event loop, and may have `MAX_SMALL_BYTES`. A body may keep
    us waiting for `patience_s` in all; each byte that comes wins some of it back.

    After an answer of 413 or 503, what the client still sends is thrown away for a moment: closing at once
    would reset the connection, and the client would never read the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        *,
        max_held_bytes: int,
        patience_s: float,
        small: Collection[str] = (),
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._patience_s = patience_s
        self._small = small

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = MAX_SMALL_BYTES if scope["path"] in self._small else self._max_bytes
        body = _LimitedBody(receive, max_bytes, self._patience_s, self._hold)
        draining_send = _DrainingSend(send, body)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > max_bytes:
            body.exceeded = True
            await http_problem(body.too_large())(scope, receive, draining_send)
            return
        try:
            await self._app(scope, body.receive, draining_send)
        finally:
            self._held_bytes -= body.held_bytes

    def _hold(self, size_bytes: int) -> None:
        """Raises HTTPException where that would be too much for all."""
        if self._held_bytes + size_bytes > self._max_held_bytes:
            raise CodedHTTPException(
                503,
                "too_many_uploads",
                "Too many uploads at once. Send this one again shortly.",
                headers={"Retry-After": str(FULL_RETRY_S), "Connection": "close"},
            )
        self._held_bytes += size_bytes


class _LimitedBody:
    """`hold` is told of bytes before they are kept; `held_bytes` are those that were."""

    def __init__(
        self, receive: Receive, max_bytes: int, patience_s: float, hold: Callable[[int], None]
    ) -> None:
        self._receive = receive
        self._hold = hold
        self._max_bytes = max_bytes
        self._patience_s = self._left_s = patience_s
        self.held_bytes = 0
        self._is_whole = False
        self.exceeded = False

    def too_large(self) -> HTTPException:
        return HTTPException(
            413,
            f"The body is too large: at most {_told(self._max_bytes)} are taken.",
            headers={"Connection": "close"},
        )

    async def receive(self) -> Message:
        if self._is_whole:  # what comes then is that the client has gone, whenever that may be
            return await self._receive()
        message = await self._receive_in_time()
        self._is_whole = not message.get("more_body", False)
        size_bytes = len(message.get("body", b""))
        if self.held_bytes + size_bytes > self._max_bytes:
            self.exceeded = True
            raise self.too_large()
        try:
            self._hold(size_bytes)
        except HTTPException:
            self.exceeded = True
            raise
        self.held_bytes += size_bytes
        return message

    async def _receive_in_time(self) -> Message:
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(self._left_s):
                message = await self._receive()
        except TimeoutError as error:
            slowest = f"{SLOWEST_BYTES_PER_S // 1024} KiB/s"
            detail = f"The body came too slowly: send {slowest} at least."
            raise HTTPException(408, detail, headers={"Connection": "close"}) from error
        left_s = self._left_s - (time.monotonic() - begun_s)
        left_s += len(message.get("body", b"")) / SLOWEST_BYTES_PER_S
        self._left_s = min(self._patience_s, left_s)
        return message

    async def drain(self) -> None:
        """Read the rest and drop it, for `DRAIN_S` seconds at most."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while (await self._receive()).get("more_body", False):
                    pass
        except TimeoutError:
            return


class _DrainingSend:
    def __init__(self, send: Send, body: _LimitedBody) -> None:
        self._send = send
        self._body = body

    async def __call__(self, message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (is_last and self._body.exceeded):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._body.drain()
        await self._send({"type": "http.response.body", "body": b""})


def _told(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB" if size_bytes >= 2**20 else f"{size_bytes / 2**10:.0f} KiB"
