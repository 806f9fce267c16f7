"""Ahead: the next batch is made while the device learns from this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Calls `draw` in one thread, a batch early; `position` tells where the draws have come to.

    What a run saves is the position behind the last batch that it was given: the early one is drawn again.
    """

    def __init__(self, draw: Callable[[], T], position: Callable[[], dict[str, Any]]) -> None:
        self._draw, self._live_position = draw, position
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._early: Future[T] | None = None
        self._position: dict[str, Any] = {}

    def next(self) -> T:
        """The next batch; whatever `draw` raised comes out here."""
        batch = self._draw() if self._early is None else self._early.result()
        self._position = self._live_position()
        self._early = self._thread.submit(self._draw)
        return batch

    @property
    def position(self) -> dict[str, Any]:
        """Where to go on, so that the batch after the last one given is the next."""
        return self._live_position() if self._early is None else self._position

    def forget(self) -> None:
        """Let go of the early batch; what `draw` depends on may be changed now."""
        if self._early is not None:
            self._early.exception()
            self._early = None
