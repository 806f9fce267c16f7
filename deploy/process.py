"""Process: one child of the launcher, that cannot outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.parts import Part

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
TAIL_LINES = 12
POLL_S = 0.05


def die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec: the kernel kills it when `parent` dies, by kill -9 too."""

    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return prepare


class Process:
    """A part that runs, with its own log file and process group.

    Its own group, because Ctrl-C in a terminal goes to the whole foreground group: Redis would stop
    before the worker has drained. The launcher stays single-threaded, for the sake of what runs
    between fork and exec.
    """

    def __init__(self, part: Part, env: Mapping[str, str], log_path: Path) -> None:
        self.name = part.name
        self.log_path = log_path
        self._part = part
        self._env = {**env, **part.env}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to the log file."""
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own command
                list(self._part.command),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - one thread, see above
            )

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def exit_code(self) -> int | None:
        """None while it runs; negative is the number of the signal that ended it."""
        return self._child.poll() if self._child else None

    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def terminate(self) -> None:
        """SIGTERM, if it runs."""
        if self._child is not None and self.is_running():
            self._child.terminate()

    def wait_or_kill(self, is_urgent: Callable[[], bool]) -> None:
        """SIGKILL, if it is still there after the part's time to stop, or as soon as it is urgent.

        Polls instead of waiting: a signal handler must not meet a wait that holds Popen's lock.
        """
        deadline_s = time.monotonic() + self._part.stop_s
        while self.is_running() and time.monotonic() < deadline_s and not is_urgent():
            time.sleep(POLL_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._child is not None and self.is_running():
            self._child.kill()
            self._child.wait()

    def log_tail(self) -> str:
        """The last lines of its log."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
