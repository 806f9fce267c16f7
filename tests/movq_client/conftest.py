"""Both clients against the live service, its real Redis, and the service tests' stand-in for the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from movq_client import AsyncClient, Client
from tests.movq_client.blocking import Blocking
from tests.service.conftest import base_url, blobs, bundle, manifest, settings, worker

__all__ = ["base_url", "blobs", "bundle", "manifest", "settings", "worker"]


class Wire(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The real wire; it keeps what was sent, and `trouble` may lose an answer that the server gave."""

    def __init__(self) -> None:
        self._blocking, self._awaiting = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()
        self.sent: list[httpx.Request] = []
        self.trouble: Callable[[httpx.Response], httpx.Response] = lambda answer: answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return self.trouble(self._blocking.handle_request(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return self.trouble(await self._awaiting.handle_async_request(request))

    def close(self) -> None:
        self._blocking.close()

    async def aclose(self) -> None:
        await self._awaiting.aclose()


class CutStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body whose connection breaks after some chunks of it."""

    def __init__(self, whole: Any, chunks: int) -> None:
        self._whole, self._chunks = whole, chunks

    def __iter__(self) -> Iterator[bytes]:
        for count, chunk in enumerate(self._whole):
            if count == self._chunks:
                raise httpx.ReadError("the line went dead")
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        count = 0
        async for chunk in self._whole:
            if count == self._chunks:
                raise httpx.ReadError("the line went dead")
            count += 1
            yield chunk

    def close(self) -> None:
        self._whole.close()

    async def aclose(self) -> None:
        await self._whole.aclose()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(params=["blocking", "awaiting"])
def connect(request: pytest.FixtureRequest, base_url: str, wire: Wire) -> Iterator[Callable[..., Any]]:
    """Makes clients of the live service; of both sorts, one after the other."""
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal()) if request.param == "awaiting" else None

        def connect(**options: Any) -> Any:
            told = {"url": base_url, "transport": wire, "timeout_s": 20.0, **options}
            if portal is None:
                return stack.enter_context(Client(**told))
            client = AsyncClient(**told)
            stack.callback(portal.call, client.close)
            return Blocking(portal, client)

        yield connect


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()
