"""DecodingPool: so many decoding processes, each with a thread of the service that talks to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service.decoding.frames import Answer, Ask
from service.decoding.process import DecodingProcess

START_TIMEOUT_S = 10.0

Result = TypeVar("Result")
Made = Callable[[Answer, list[bytes]], Result]


class DecodingPool:
    """Threads, because pipes block; each has one process. Who finds them all at work waits for his turn."""

    def __init__(self, *, max_pixels: int, max_bytes: int, timeout_s: float, processes: int) -> None:
        self.timeout_s = timeout_s
        self.max_pixels = max_pixels
        self._max_bytes = max_bytes
        self._number = processes
        self._own = threading.local()
        self._all: list[DecodingProcess] = []
        self._threads = ThreadPoolExecutor(processes, "decoding")

    def start(self) -> None:
        """Start the processes, so that the first upload finds them warm. Returns before they are."""
        all_there = threading.Barrier(self._number, timeout=START_TIMEOUT_S)  # each thread takes one of these
        for _ in range(self._number):
            self._threads.submit(self._warm, all_there)

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there now."""
        return [process.pid for process in self._all]

    def close(self) -> None:
        """Kill them, whatever they do."""
        self._close_all()
        self._threads.shutdown(cancel_futures=True)
        self._close_all()  # one may just have been replaced

    async def ask(self, ask: Ask, parts: Sequence[bytes], made: Made[Result]) -> Result:
        """`made` of the answer, called in the thread. Raises what it raises, DecodingTimeout, DecodingDied.

        The time that decoding may take begins when a process is free.
        """
        return await asyncio.wrap_future(self._threads.submit(self._ask, ask, parts, made))

    def _ask(self, ask: Ask, parts: Sequence[bytes], made: Made[Result]) -> Result:
        bounded = ask.model_copy(update={"max_pixels": self.max_pixels, "cpu_s": self.timeout_s})
        return made(*self._process().ask(bounded, parts, self.timeout_s))

    def _process(self) -> DecodingProcess:
        """This thread's own."""
        if not hasattr(self._own, "process"):
            self._own.process = DecodingProcess(self.max_pixels, self._max_bytes)
            self._all.append(self._own.process)
        process: DecodingProcess = self._own.process
        return process

    def _warm(self, all_there: threading.Barrier) -> None:
        all_there.wait()
        self._process()

    def _close_all(self) -> None:
        for process in self._all:
            process.close()
