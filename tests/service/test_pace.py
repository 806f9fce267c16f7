"""How fast images leave, by the jobs that ended last."""

from __future__ import annotations

import pytest

from service.pace import PACE_RUNS, Run, images_per_s

NOW_S = 1.8e9


def runs(*spans: tuple[float, float], images: int = 1) -> list[Run]:
    return [Run(images, NOW_S + start, NOW_S + end) for start, end in spans]


def test_nobody_knows_before_the_first() -> None:
    assert images_per_s([]) == 0.0


def test_one_run_tells_its_own_pace() -> None:
    assert images_per_s(runs((0, 2), images=8)) == 4.0


def test_a_rest_does_not_count() -> None:
    """One job long ago, and one now: it is not an image in an hour."""
    assert images_per_s(runs((-3600, -3599), (-1, 0))) == 1.0


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_rows_that_are_never_empty(rows: int) -> None:
    """Twelve images a second leave; each was with the worker for as long as the rows are many."""
    spans = [(place / 12 - rows / 12, place / 12) for place in range(200)]
    assert images_per_s(runs(*spans)) == pytest.approx(12, rel=0.01)


def test_batches_that_end_at_one_moment() -> None:
    assert images_per_s(runs(*[(0.0, 2.0)] * 16)) == 8.0
    batches = [(2.0 * batch, 2.0 * batch + 2) for batch in range(10) for _ in range(16)]
    assert images_per_s(runs(*batches)) == pytest.approx(8, rel=0.35)


def test_the_last_ones_count() -> None:
    """A worker that came along is seen at once."""
    slow = [(float(place), place + 1.0) for place in range(100)]
    fast = [(100 + place / 10, 100 + (place + 1) / 10) for place in range(PACE_RUNS)]
    assert images_per_s(runs(*slow, *fast)) == pytest.approx(10)
