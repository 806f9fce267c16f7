"""Doorbell: a thread that tells when jobs stand in the queue, so that nobody has to look again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from movq_core.errors import QueueUnavailable

LOOK_S = 1  # how long Redis may be asked to wait for a job


class Doorbell:
    """Rings once after each `arm()`, as soon as a job stands in the queue; it takes none.

    What it waits for and what rings are `jobs_wait(seconds)` and `ring()`, both called on its own thread.
    """

    def __init__(self, jobs_wait: Callable[[int], bool], ring: Callable[[], None]) -> None:
        self._jobs_wait = jobs_wait
        self._ring = ring
        self._armed = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="movq-doorbell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def arm(self) -> None:
        self._armed.set()

    def is_armed(self) -> bool:
        return self._armed.is_set()

    def close(self) -> None:
        """It rings no more, and its thread ends within moments; nobody need wait for that."""
        self._closed = True
        self._armed.set()

    def _run(self) -> None:
        while self._armed.wait() and not self._closed:
            try:
                job_waits = self._jobs_wait(LOOK_S)
            except QueueUnavailable:
                job_waits = True  # who answers the bell finds out, and waits until Redis is back
            if job_waits and not self._closed:
                self._armed.clear()
                self._ring()
