"""What a load came to, and what has grown: from visits and samples of known shape."""

from __future__ import annotations

import pytest

from benchmarks.load.point import RAMP_SHARE, Point
from benchmarks.load.soak import growth
from benchmarks.load.truth import Told
from benchmarks.serving.client import Answer, Refusal
from benchmarks.serving.visit import Visit


def test_a_point_counts_what_ended_in_its_time() -> None:
    """Four arrive a second for ten; every other is refused, and one answer takes three seconds."""
    arrivals_s = [place / 4 for place in range(1, 41)]
    answers = [Answer(seed=0, steps=12, asked_s=at_s, took_s=3.0, sha256="") for at_s in arrivals_s[::2]]
    refusals = [Refusal(asked_s=at_s, took_s=0.01, retry_after_s=2) for at_s in arrivals_s[1::2]]
    point = Point.of(Visit(tuple(answers), 13.0, {"worker": 6.5}, tuple(refusals)), 2.0, arrivals_s)
    counted_s = 10 * (1 - RAMP_SHARE)
    assert point.offered == pytest.approx(4, rel=0.05)
    assert point.goodput == pytest.approx(14 / counted_s), "those of the last three seconds ended later"
    assert point.refused == pytest.approx(2, rel=0.1)
    assert (point.p50_s, point.p99_s, list(point.retry_after_s)) == (3.0, 3.0, [2])
    assert point.cores == {"worker": 0.5}


def test_told_and_true_are_compared_in_whole_seconds() -> None:
    assert Told(images=1, told_s=1, true_s=0.1).factor == 1.0
    assert Told(images=4, told_s=4, true_s=1.2).factor == 2.0


@pytest.mark.parametrize("a_minute", [0.0, 0.1])
def test_growth_is_that_of_the_last_half_hour(a_minute: float) -> None:
    """What rose before it does not count."""
    samples = [
        {"time, s": 60.0 * minute, "x": 100.0 + a_minute * max(0, minute - 30) + min(0, minute - 30)}
        for minute in range(61)
    ]
    assert growth(samples, "x") == pytest.approx(30 * a_minute / (100 + 15 * a_minute), abs=1e-6)
