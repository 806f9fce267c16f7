"""Limits: what a decoder takes from itself before it looks at a byte. Each where the system knows it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

MAX_FILES = 16  # its pipes, and what an import opens
NICENESS = 5  # whoever waits for bytes can wait longer than the service's loop
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def limit_process(memory_bytes: int, parent: int) -> None:
    """No files, no core, so much memory, no rights that its parent lacks; and it dies with its parent."""
    if sys.platform == "linux":
        Path("/proc/self/oom_score_adj").write_text("1000")  # rather we than the service
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    with suppress(AttributeError, OSError):
        os.nice(NICENESS)
    if resource is None:
        return
    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NOFILE", MAX_FILES),
        ("RLIMIT_AS", memory_bytes),
    ):
        with suppress(AttributeError, ValueError, OSError):  # macOS refuses the last one
            resource.setrlimit(getattr(resource, name), (value, value))


def limit_cpu(seconds: float) -> None:
    """From now on so many seconds of the processor at most, then the kernel kills us."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
