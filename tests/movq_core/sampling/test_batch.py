"""Batch: images, then twins, then padding; buckets; cuts."""

import pytest

from movq_core.sampling.batch import bucket_for, bucket_sizes, cut, entries_of

GUIDED = {0: False, 1: True, 2: False, 3: True}
SCRATCH = 9


def test_images_come_first_then_twins_then_padding():
    row, owner, pair = entries_of([3, 0, 1], GUIDED, SCRATCH, size=7).tolist()
    assert row == [3, 0, 1, 3, 1, SCRATCH, SCRATCH]
    assert owner == [3, 0, 1, *[SCRATCH] * 4]  # a twin has no class, and writes to nobody
    assert pair == [3, 1, 4, 3, 4, 5, 6]  # who has no twin is its own


def test_without_a_size_nothing_is_padded_and_nobody_rides_twice_for_nothing():
    assert entries_of([0, 2], GUIDED, SCRATCH).tolist() == [[0, 2], [0, 2], [0, 1]]
    assert entries_of([1], GUIDED, SCRATCH).tolist() == [[1, 1], [1, SCRATCH], [1, 1]]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 32, 100, 1024])
def test_buckets_hold_all_that_can_ride_and_waste_at_most_a_third(most):
    sizes = bucket_sizes(most)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == most
    for entries in range(1, most + 1):
        size = bucket_for(sizes, entries)
        assert entries <= size
        assert size - entries <= size / 3


def test_the_buckets_of_sixteen_guided_rows():
    assert bucket_sizes(32) == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def test_a_cut_parts_no_pair_and_loses_nobody():
    rows = [1, 0, 3, 2, 1, 3]
    runs = list(cut(rows, GUIDED, 4))
    assert [row for run in runs for row in run] == rows
    assert [sum(1 + GUIDED[row] for row in run) for run in runs] == [3, 3, 4]
    assert list(cut([], GUIDED, 4)) == []
