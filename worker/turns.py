"""Turns: who goes next, so that each gets its share of what there is: a device's time, or a worker's rows.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), as Linux's fair scheduler has it: of those with
work, the one that has used least for its weight goes next. A turn is never cut short: who gets work waits for
the turn at hand, and after a long turn of its own for as long as that was. No device, no lock, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Turns(Generic[Key]):
    """What each has used, by its weight, on a scale of their own; those with work share by their weights."""

    def __init__(self, weights: Mapping[Key, float]) -> None:
        self._weights = weights
        self._used = dict.fromkeys(weights, 0.0)
        self._busy: Sequence[Key] = ()
        self._now = 0.0  # what the one that had the last turn had used when it began

    def next(self, busy: Sequence[Key]) -> Key | None:
        """Whose turn it is of those that have work; None when none has."""
        if not busy:
            self._now = max(self._used.values())  # who is idle forgives what was used
            self._busy = busy
            return None
        if busy != self._busy:
            self._welcome(busy)
        key = min(busy, key=self._used.__getitem__)
        self._now = self._used[key]
        return key

    def charge(self, key: Key, amount: float) -> None:
        """`key` had so much: seconds of a device, or whatever is shared."""
        self._used[key] += amount / self._weights[key]

    def _welcome(self, busy: Sequence[Key]) -> None:
        """Who has work again starts level with the others: what was not used while idle is gone."""
        for key in busy:
            if key not in self._busy:
                self._used[key] = max(self._used[key], self._now)
        self._busy = busy
