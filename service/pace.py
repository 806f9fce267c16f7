"""The pace of a bundle's workers: images a second while they have some to make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PACE_RUNS = 64  # the pace is told by the last of them


@dataclass(frozen=True)
class Run:
    """A job's time with its worker, in seconds since 1970."""

    images: int
    started_s: float
    ended_s: float


def images_per_s(runs: Sequence[Run]) -> float:
    """By the runs that ended last; 0 without any.

    Time in which none of them ran does not count: a rest says nothing of the pace. Counted is from one end on
    to the last, so that what was begun before, and is running now, evens out; where all ended at one moment,
    from the first start on.
    """
    last = sorted(runs, key=lambda run: run.ended_s)[-PACE_RUNS:]
    if not last:
        return 0.0
    later = last[1:]
    if busy_s := _busy_s(later, since_s=last[0].ended_s):
        return sum(run.images for run in later) / busy_s
    return sum(run.images for run in last) / max(1e-3, _busy_s(last, since_s=0.0))


def _busy_s(runs: Iterable[Run], since_s: float) -> float:
    """Seconds from `since_s` on in which at least one ran."""
    busy_s, until_s = 0.0, since_s
    for run in sorted(runs, key=lambda run: run.started_s):
        busy_s += max(0.0, run.ended_s - max(run.started_s, until_s))
        until_s = max(until_s, run.ended_s)
    return busy_s
