"""Halton's order: each entry once, evenly over the image, a position's channels apart."""

from fractions import Fraction

import pytest
import torch

from movq_core.sampling.halton import halton_positions, halton_ranks, radical_inverse

SHAPES = [(1, 1), (4, 4), (8, 8), (16, 16), (32, 32), (3, 7), (1, 5)]
CPU = torch.device("cpu")


def exact(index, base):
    """The sequence's number `index`, as the textbook has it: digits mirrored at the point."""
    value, weight = Fraction(0), Fraction(1, base)
    while index:
        value, index, weight = value + index % base * weight, index // base, weight / base
    return value


@pytest.mark.parametrize("base", [2, 3])
def test_a_cell_is_where_the_sequence_falls(base):
    for index in range(1, 500):
        for cells in (1, 7, 16, 32):
            assert radical_inverse(index, base, cells) == exact(index, base) * cells // 1


def test_the_first_positions_of_sixteen_squared():
    """1/2 1/3, 1/4 2/3, 3/4 1/9, 1/8 4/9, 5/8 7/9: worked out by hand."""
    assert halton_positions(16, 16)[:5] == [8 * 16 + 5, 4 * 16 + 10, 12 * 16 + 1, 2 * 16 + 7, 10 * 16 + 12]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_position_is_met_once(shape):
    assert sorted(halton_positions(*shape)) == list(range(shape[0] * shape[1]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_entry_has_its_rank(channels, shape):
    ranks = halton_ranks(channels, *shape, CPU)
    assert sorted(ranks.tolist()) == list(range(channels * shape[0] * shape[1]))


@pytest.mark.parametrize("channels", [2, 4])
def test_the_channels_of_a_position_settle_far_apart(channels):
    """So in one step only where it settles as many codes as there are positions."""
    ranks = halton_ranks(channels, 16, 16, CPU).view(channels, 256)
    for one in range(channels):
        for other in range(one):
            assert (ranks[one] - ranks[other]).abs().min() >= 256 - channels


@pytest.mark.parametrize("settled", [16, 64, 200])
def test_what_has_settled_lies_evenly(settled):
    """Of each quarter as much as of the others, but for a few: by chance, of 200, they would differ by 12."""
    first = halton_ranks(4, 16, 16, CPU).view(4, 16, 16) < settled
    quarters = first.unflatten(1, (2, 8)).unflatten(3, (2, 8)).sum((0, 2, 4)).flatten()
    assert quarters.sum() == settled
    assert quarters.max() - quarters.min() <= 6
