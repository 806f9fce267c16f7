"""Supervisor: keeps one process running, with a pause that grows while it keeps dying."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploy.process import Process

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
STEADY_S = 60.0  # a process that lived for so long starts again with the first pause
MISCONFIGURED = 2  # the exit code of a process that says it can never start like this


class GivenUp(Exception):
    """The process can never start as it is configured."""


class Supervisor:
    """Restarts `process` when it dies, and says so through `tell`."""

    def __init__(self, process: Process, tell: Callable[[str], None]) -> None:
        self.process = process
        self._tell = tell
        self._pause_s = FIRST_PAUSE_S
        self._started_at_s = 0.0
        self._restart_at_s: float | None = None

    def start(self) -> None:
        self._started_at_s = time.monotonic()
        self._restart_at_s = None
        self.process.start()

    def check(self) -> None:
        """Called several times a second; raises GivenUp."""
        if self._restart_at_s is not None:
            if time.monotonic() >= self._restart_at_s:
                self.start()
            return
        code = self.process.exit_code()
        if code is not None:
            self._on_death(code)

    def _on_death(self, code: int) -> None:
        process = self.process
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        self._tell(f"{process.name} {how}; the end of {process.log_path}:\n{process.log_tail()}")
        if code == MISCONFIGURED:
            raise GivenUp(f"{process.name} cannot start; its log says why.")
        lived_s = time.monotonic() - self._started_at_s
        self._pause_s = FIRST_PAUSE_S if lived_s > STEADY_S else min(MAX_PAUSE_S, 2 * self._pause_s)
        self._restart_at_s = time.monotonic() + self._pause_s
        self._tell(f"{process.name} starts again in {self._pause_s:g} s.")
