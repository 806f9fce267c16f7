"""Claims: what was seen to be true, and when; the first that is not ends a trial."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


class Untrue(Exception):
    """Something that our docs say was not seen."""


class Log:
    """What was seen, and when."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def say(self, text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - self._begun_s:6.1f} s] {text}\n")
        sys.stdout.flush()

    def claim(self, true: object, text: str) -> None:
        """Raises Untrue unless it is."""
        if not true:
            raise Untrue(text)
        self.say(f"  ok  {text}")


def until(true: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Seconds until it is; raises Untrue after `timeout_s`."""
    begun_s = time.monotonic()
    while not true():
        if time.monotonic() - begun_s > timeout_s:
            raise Untrue(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - begun_s
