"""Connection: holds verbs with one server, by blocking; AsyncConnection by awaiting. All that does I/O."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
from httpx_sse import aconnect_sse, connect_sse
from tenacity import AsyncRetrying, Retrying

from movq_client import verbs
from movq_client.calls import Call
from movq_client.errors import raise_for, unreachable
from movq_client.events import SILENCE_S, Event, Listening, Message, StreamCut
from movq_client.retries import Retries
from movq_client.verbs import Pause, Verb

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
# Longer than the server holds a request that prefers to wait.
TIMEOUT = httpx.Timeout(connect=10.0, read=75.0, write=75.0, pool=75.0)
LISTENING = httpx.Timeout(connect=10.0, read=SILENCE_S, write=75.0, pool=75.0)


class Connection:
    """Verbs with one server, retried as `retries` says."""

    def __init__(
        self, url: str | None, api_key: str | None, retries: Retries, transport: httpx.BaseTransport | None
    ) -> None:
        self._retries = retries
        self._http = httpx.Client(**_http_options(url, api_key), transport=transport)

    def close(self) -> None:
        self._http.close()

    def run(self, verb: Verb[T]) -> T:
        answer = None
        while True:
            try:
                asked = verb.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = self._answer(asked)

    def _answer(self, asked: Call | Pause) -> httpx.Response | None:
        if isinstance(asked, Pause):
            time.sleep(asked.seconds)
            return None
        return Retrying(**self._retries.policy())(self._send, asked)

    def _send(self, call: Call) -> httpx.Response:
        try:
            answer = self._http.request(**_request_options(call))
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url) from error
        raise_for(answer)
        return answer

    def events(self, listening: Listening) -> Generator[Event, None, None]:
        for attempt in Retrying(**listening.policy(self._retries)):
            with attempt:
                for message in self._messages(listening):
                    yield self.run(verbs.event(listening, message))

    def _messages(self, listening: Listening) -> Iterator[Message]:
        """What one connection brings, up to `done`; raises StreamCut when it ends before."""
        options = {"headers": listening.headers(), "timeout": LISTENING}
        try:
            with connect_sse(self._http, "GET", listening.path, **options) as source:
                if source.response.is_error:
                    source.response.read()
                    raise_for(source.response)
                for sse in source.iter_sse():
                    if message := listening.message(sse):
                        yield message
                        if message.type == "done":
                            return
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url) from error
        raise StreamCut(f"The events of job {listening.job_id} ended before it did.")


class AsyncConnection:
    """`Connection` with `await`."""

    def __init__(
        self,
        url: str | None,
        api_key: str | None,
        retries: Retries,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self._retries = retries
        self._http = httpx.AsyncClient(**_http_options(url, api_key), transport=transport)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, verb: Verb[T]) -> T:
        answer = None
        while True:
            try:
                asked = verb.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            answer = await self._answer(asked)

    async def _answer(self, asked: Call | Pause) -> httpx.Response | None:
        if isinstance(asked, Pause):
            await asyncio.sleep(asked.seconds)
            return None
        return await AsyncRetrying(**self._retries.policy())(self._send, asked)

    async def _send(self, call: Call) -> httpx.Response:
        try:
            answer = await self._http.request(**_request_options(call))
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url) from error
        raise_for(answer)
        return answer

    async def events(self, listening: Listening) -> AsyncGenerator[Event, None]:
        async for attempt in AsyncRetrying(**listening.policy(self._retries)):
            with attempt:
                async with aclosing(self._messages(listening)) as messages:
                    async for message in messages:
                        yield await self.run(verbs.event(listening, message))

    async def _messages(self, listening: Listening) -> AsyncGenerator[Message, None]:
        """What one connection brings, up to `done`; raises StreamCut when it ends before."""
        options = {"headers": listening.headers(), "timeout": LISTENING}
        try:
            async with aconnect_sse(self._http, "GET", listening.path, **options) as source:
                if source.response.is_error:
                    await source.response.aread()
                    raise_for(source.response)
                async for sse in source.aiter_sse():
                    if message := listening.message(sse):
                        yield message
                        if message.type == "done":
                            return
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url) from error
        raise StreamCut(f"The events of job {listening.job_id} ended before it did.")


def _http_options(url: str | None, api_key: str | None) -> dict[str, Any]:
    """Arguments of `httpx.Client` and `httpx.AsyncClient`; what is not said is MOVQ_URL and MOVQ_API_KEY."""
    key = api_key or os.environ.get("MOVQ_API_KEY")
    return {
        "base_url": url or os.environ.get("MOVQ_URL") or DEFAULT_URL,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": TIMEOUT,
    }


def _request_options(call: Call) -> dict[str, Any]:
    """Arguments of `request`."""
    return {
        "method": call.method,
        "url": call.path,
        "params": call.params,
        "headers": call.headers,
        "json": call.json,
        "data": call.form,
        "files": {name: (name, data, "application/octet-stream") for name, data in call.files.items()},
    }
