"""DecodingProcess: one process that decodes, started anew when it has died or done enough."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from service.decoding.frames import Answer, Ask, BrokenFrame, read_frame, write_frame

WORKS = 200  # then a fresh one: what leaks in a decoder does not add up
BASE_MEMORY_BYTES = 640 * 2**20  # address space of the interpreter with its libraries
BYTES_A_PIXEL = 40  # decoded (4), turned (4), on its ground (3 * 4), and an edit's mask, margins and copies


class DecodingTimeout(Exception):
    """It took longer than it may, and was killed."""


class DecodingDied(Exception):
    """The process died of what it was given."""


class DecodingProcess:
    """Belongs to one thread, which must not end before it: the kernel kills the process with its thread.

    The process inherits no variable of the service's environment, and so no secret; and no file of it.
    """

    def __init__(self, max_pixels: int, max_bytes: int) -> None:
        self._memory_bytes = BASE_MEMORY_BYTES + BYTES_A_PIXEL * max_pixels + 8 * max_bytes
        self._max_answer_bytes = 4 * max_pixels + 2 * max_bytes
        self._is_closed = False
        self._process = self._start()

    def ask(self, ask: Ask, parts: Sequence[bytes], timeout_s: float) -> tuple[Answer, list[bytes]]:
        """What it answers. Raises DecodingTimeout or DecodingDied; the next one asks another process."""
        if self._process.poll() is not None:  # killed while it had nothing to do
            self._replace()
        is_late = threading.Event()
        timer = threading.Timer(timeout_s, self._give_up, (self._process, is_late))
        timer.start()
        try:
            write_frame(cast(BinaryIO, self._process.stdin), ask, parts)
            answer, made = read_frame(cast(BinaryIO, self._process.stdout), Answer, self._max_answer_bytes)
        except (OSError, BrokenFrame) as error:
            self._replace()
            if is_late.is_set():
                raise DecodingTimeout from error
            raise DecodingDied(str(error)) from error
        finally:
            timer.cancel()
            timer.join()
        if answer.last or is_late.is_set():
            self._replace()
        return answer, made

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Kill it, for good; from any thread."""
        self._is_closed = True
        self._end()

    def _replace(self) -> None:
        """The next one starts while nobody waits for it."""
        self._end()
        if not self._is_closed:
            self._process = self._start()

    def _end(self) -> None:
        """It has nothing that is worth a farewell."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # what was not yet written
                pipe.close()

    @staticmethod
    def _give_up(process: subprocess.Popen[bytes], is_late: threading.Event) -> None:
        is_late.set()
        process.send_signal(signal.SIGKILL)

    def _start(self) -> subprocess.Popen[bytes]:
        arguments = map(str, (self._memory_bytes, os.getpid(), WORKS))
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "service.decoding", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OPENBLAS_NUM_THREADS": "1",  # each thread of NumPy's takes address space
            },
            start_new_session=True,  # Ctrl-C is the service's business
        )
