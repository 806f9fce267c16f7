"""Blocking: an AsyncClient that is used as a Client is, so that one test tries both."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from anyio.from_thread import BlockingPortal

from movq_client import AsyncClient, AsyncJob


class Blocking:
    """`thing` with its coroutines awaited, and its asynchronous iterators iterated, in the portal's loop."""

    def __init__(self, portal: BlockingPortal, thing: AsyncClient | AsyncJob[Any]) -> None:
        self._portal, self._thing = portal, thing

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._thing, name)
        return functools.partial(self._call, value) if inspect.ismethod(value) else value

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        if inspect.isasyncgenfunction(method):
            return self._iterate(method(*args, **kwargs))
        return self._blocking(self._portal.call(functools.partial(method, *args, **kwargs)))

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self._portal.call(items.__anext__)
        except StopAsyncIteration:
            return
        finally:
            self._portal.call(items.aclose)  # type: ignore[attr-defined]

    def _blocking(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._blocking(item) for item in value]
        return Blocking(self._portal, value) if isinstance(value, AsyncJob) else value
