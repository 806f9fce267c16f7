"""Doorbell: tells when jobs stand in a queue, so that nobody has to look again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from movq_core.errors import QueueUnavailable

LOOK_S = 3  # how long Redis may be asked to wait for a job


class Doorbell:
    """Rings once after each `arm()`, as soon as a job stands in one of the queues; it takes none.

    What it waits for, on a thread each, are `bells`: whether a job stands in a queue, now or within so many
    seconds. `ring()` is called on the thread that found one.
    """

    def __init__(self, bells: Sequence[Callable[[int], bool]], ring: Callable[[], None]) -> None:
        self._ring = ring
        self._armed = threading.Event()
        self._ringing = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, args=(bell,), name="movq-doorbell", daemon=True)
            for bell in bells
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def arm(self) -> None:
        self._armed.set()

    def is_armed(self) -> bool:
        return self._armed.is_set()

    def close(self) -> None:
        """It rings no more, and its threads end within moments; nobody need wait for that."""
        self._closed = True
        self._armed.set()

    def _run(self, job_waits: Callable[[int], bool]) -> None:
        while self._armed.wait() and not self._closed:
            try:
                found = job_waits(LOOK_S)
            except QueueUnavailable:
                found = True  # who answers the bell finds out, and waits until Redis is back
            if found:
                self._ring_once()

    def _ring_once(self) -> None:
        with self._ringing:
            is_first = self._armed.is_set() and not self._closed
            if is_first:
                self._armed.clear()
        if is_first:
            self._ring()
