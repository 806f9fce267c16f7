"""Turns: which kind of work has the device next, so that each gets its share of the device's time.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), as Linux's fair scheduler has it: of the kinds
with work, the one that has used least of the device's time goes next. A turn is never cut short: a kind that
gets work waits for the turn at hand, and after a long turn of its own for as long as that was. No device, no
lock, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum


class Kind(Enum):
    """What the engine's device does. A turn is the smallest piece of it."""

    GENERATION = "generation"  # one step of the batch, or the pixels of one finished image
    TILES = "tiles"  # one tile of an encode, decode or reconstruct job


class Turns:
    """The time that each kind has used, in seconds on a scale of their own; kinds with work share equally."""

    def __init__(self) -> None:
        self._used_s = dict.fromkeys(Kind, 0.0)
        self._busy: Sequence[Kind] = ()
        self._now_s = 0.0  # what the kind that had the last turn had used when it began

    def next(self, busy: Sequence[Kind]) -> Kind | None:
        """Whose turn it is of the kinds that have work; None when none has."""
        if not busy:
            self._now_s = max(self._used_s.values())  # an idle device forgives what was used
            self._busy = busy
            return None
        if busy != self._busy:
            self._welcome(busy)
        kind = min(busy, key=self._used_s.__getitem__)
        self._now_s = self._used_s[kind]
        return kind

    def charge(self, kind: Kind, seconds: float) -> None:
        """`kind` had the device for so long."""
        self._used_s[kind] += seconds

    def _welcome(self, busy: Sequence[Kind]) -> None:
        """Who has work again starts level with the others: what was not used while idle is gone."""
        for kind in busy:
            if kind not in self._busy:
                self._used_s[kind] = max(self._used_s[kind], self._now_s)
        self._busy = busy
