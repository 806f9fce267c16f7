"""How fast images leave, by the jobs that ended last."""

from __future__ import annotations

import pytest

from service.pace import PACE_RUNS, InFlight, Run, images_per_s, seconds_until_gone, steps_an_image

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


def test_a_full_house_that_came_together_leaves_together() -> None:
    """Sixteen of an image each, taken a second ago, at eight a second: in a second all of them are gone."""
    house = [InFlight(1, age_s=1.0)] * 16
    assert seconds_until_gone(1, house, pace=8.0) == seconds_until_gone(16, house, pace=8.0) == 1.0
    assert seconds_until_gone(24, house, pace=8.0) == 2.0


def test_a_house_that_came_one_by_one_leaves_one_by_one() -> None:
    house = [InFlight(1, age_s=place / 8) for place in range(16)]
    waits_s = [seconds_until_gone(images, house, pace=8.0) for images in (1, 2, 9)]
    assert waits_s == pytest.approx([1 / 8, 2 / 8, 9 / 8])


def test_a_house_of_longer_jobs_stays_longer() -> None:
    """Twelve steps were the pace, eight images a second; the sixteen that run now take forty-eight each."""
    house = [InFlight(1, age_s=1.0, steps=48)] * 16
    assert seconds_until_gone(1, house, pace=8.0, steps_an_image=12) == 7.0
    assert seconds_until_gone(24, house, pace=8.0, steps_an_image=12) == 7.0 + 4.0
    mixed = [InFlight(8, age_s=0.0, steps=48), InFlight(8, age_s=0.0, steps=12)]
    waits_s = [seconds_until_gone(images, mixed, pace=8.0, steps_an_image=12) for images in (8, 9, 16)]
    assert waits_s == [2.0, 8.0, 8.0], "who has fewer steps leaves first, though he came second"


def test_steps_of_the_last_ones() -> None:
    assert steps_an_image([]) == 1.0
    assert steps_an_image([Run(1, 0.0, 1.0, steps=12), Run(3, 0.0, 1.0, steps=48)]) == 39.0


def test_who_is_late_may_leave_at_any_moment() -> None:
    assert seconds_until_gone(1, [InFlight(4, age_s=60.0)], pace=2.0) == 0.0
    assert seconds_until_gone(6, [], pace=2.0) == 3.0
