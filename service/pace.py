"""The pace of a bundle's workers: images a second while they have any to make, and of how many steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PACE_RUNS = 64  # the pace is told by the last of them


@dataclass(frozen=True)
class Run:
    """A job's time with its worker, in seconds since 1970; each of its images took so many steps."""

    images: int
    started_s: float
    ended_s: float
    steps: int = 1


@dataclass(frozen=True)
class InFlight:
    """A job that a worker has, and for how long it has had it."""

    images: int
    age_s: float
    steps: int = 1


def seconds_until_gone(
    images: int, in_flight: Sequence[InFlight], pace: float, steps_an_image: float = 1.0
) -> float:
    """How long until so many images have left, at a pace of so many a second, each of so many steps.

    A job's images leave together, and jobs that were taken together leave together: after a burst nothing
    leaves for as long as a full house takes, and then all of it. By Little's law a step of the house takes
    as long as it has images, by their pace. Behind those that run follow others of as many steps.
    """
    in_house = sum(job.images for job in in_flight)
    image_steps_per_s = pace * steps_an_image
    step_s = in_house / image_steps_per_s
    left_s = 0.0
    for job in sorted(in_flight, key=lambda job: job.steps * step_s - job.age_s):
        left_s = max(0.0, job.steps * step_s - job.age_s)
        images -= job.images
        if images <= 0:
            return left_s
    steps = sum(job.images * job.steps for job in in_flight) / in_house if in_house else steps_an_image
    return left_s + images * steps / image_steps_per_s


def images_per_s(runs: Sequence[Run]) -> float:
    """By the runs that ended last; 0 without any.

    Time in which none of them ran does not count: a rest says nothing of the pace. Counted is from one end on
    to the last, so that what was begun before, and is running now, evens out; where all ended at one moment,
    from the first start on.
    """
    last = _last(runs)
    if not last:
        return 0.0
    later = last[1:]
    if busy_s := _busy_s(later, since_s=last[0].ended_s):
        return sum(run.images for run in later) / busy_s
    return sum(run.images for run in last) / max(1e-3, _busy_s(last, since_s=0.0))


def steps_an_image(runs: Sequence[Run]) -> float:
    """By the same runs; 1 without any."""
    last = _last(runs)
    images = sum(run.images for run in last)
    return sum(run.images * run.steps for run in last) / images if images else 1.0


def _last(runs: Iterable[Run]) -> Sequence[Run]:
    return sorted(runs, key=lambda run: run.ended_s)[-PACE_RUNS:]


def _busy_s(runs: Iterable[Run], since_s: float) -> float:
    """Seconds from `since_s` on in which at least one ran."""
    busy_s, until_s = 0.0, since_s
    for run in sorted(runs, key=lambda run: run.started_s):
        busy_s += max(0.0, run.ended_s - max(run.started_s, until_s))
        until_s = max(until_s, run.ended_s)
    return busy_s
