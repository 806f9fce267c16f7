"""SecurityHeaders: what a browser is told of every answer."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OF_ALL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_OF_PAGES = {
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """ASGI middleware: nothing is sniffed, and a page is framed and followed by nobody.

    What has no Content-Security-Policy of its own, as pages and blobs have, may load nothing. Answers are for
    pages of our own origin, unless others are let in (`shared`). Strict-Transport-Security is for whoever
    ends TLS to say.
    """

    def __init__(self, app: ASGIApp, *, shared: bool) -> None:
        self._app = app
        self._of_all = _OF_ALL | {"Cross-Origin-Resource-Policy": "cross-origin" if shared else "same-origin"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._secure(MutableHeaders(scope=message))
            await send(message)

        await self._app(scope, receive, secured_send if scope["type"] == "http" else send)

    def _secure(self, headers: MutableHeaders) -> None:
        is_page = headers.get("content-type", "").startswith("text/html")
        for name, value in (self._of_all | _OF_PAGES if is_page else self._of_all).items():
            headers.setdefault(name, value)
