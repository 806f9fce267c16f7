"""Edits: any pixel of a cell masks it; a share of the masked cells' codes is made anew, no other code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from movq_core.edits import code_mask, remasked
from movq_core.params import MAX_SEED

MASK = 1000  # the codebook's size
STRENGTHS = st.floats(0.0, 1.0, exclude_min=True)
SEEDS = st.integers(0, MAX_SEED)
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


@st.composite
def images(draw):
    """Codes (C, H, W) and the cells (H, W) that are masked."""
    shape = draw(SHAPES)
    codes = draw(arrays.arrays(np.int64, shape, elements=st.integers(0, MASK - 1)))
    return codes, draw(arrays.arrays(np.bool_, shape[1:]))


@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.integers(1, 8))
def test_a_cell_is_masked_when_any_of_its_pixels_is(pixels, factor):
    cells = code_mask(pixels, factor)
    assert cells.shape == (-(-pixels.shape[0] // factor), -(-pixels.shape[1] // factor))
    for row, column in np.ndindex(cells.shape):
        down, across = row * factor, column * factor
        assert cells[row, column] == pixels[down : down + factor, across : across + factor].any()


@given(images(), STRENGTHS, SEEDS)
def test_a_share_of_the_masked_cells_codes_is_masked_and_no_other_changes(image, strength, seed):
    codes, masked = image
    before = codes.copy()
    result = remasked(codes, masked, strength, seed, MASK)
    anew = result == MASK
    assert not anew[:, ~masked].any()
    assert np.array_equal(result[~anew], codes[~anew])
    candidates = len(codes) * masked.sum()
    assert anew.sum() == (max(1, round(strength * candidates)) if candidates else 0)
    assert np.array_equal(codes, before), "the input was written to"


@given(images(), SEEDS)
def test_full_strength_masks_all_of_them(image, seed):
    codes, masked = image
    assert np.array_equal(remasked(codes, masked, 1.0, seed, MASK), np.where(masked, MASK, codes))


@given(images(), STRENGTHS, STRENGTHS, SEEDS)
def test_a_greater_strength_masks_the_same_and_more(image, one, other, seed):
    codes, masked = image
    less, more = (remasked(codes, masked, s, seed, MASK) == MASK for s in sorted((one, other)))
    assert (less <= more).all()


@given(images(), STRENGTHS, SEEDS)
def test_the_same_seed_masks_the_same(image, strength, seed):
    codes, masked = image
    first = remasked(codes, masked, strength, seed, MASK)
    assert np.array_equal(first, remasked(codes, masked, strength, seed, MASK))


def test_other_seeds_mask_others_evenly():
    """20,000 seeds mask 8 of 32 codes each: a code strays from 5,000 by 6 sigma (367) once in 10^8."""
    codes, masked = np.zeros((2, 4, 4), np.int64), np.ones((4, 4), bool)
    counts = sum((remasked(codes, masked, 0.25, seed, MASK) == MASK).astype(int) for seed in range(20_000))
    assert counts.sum() == 20_000 * 8
    assert np.abs(counts - 5_000).max() < 367


@pytest.mark.parametrize(
    ("seed", "entries"),
    [(0, [0, 1, 2, 9, 11, 17, 20, 21]), (MAX_SEED, [5, 8, 9, 10, 11, 12, 26, 27])],
)
def test_the_choice_is_the_same_on_every_machine_and_for_good(seed, entries):
    anew = remasked(np.zeros((2, 4, 4), np.int64), np.ones((4, 4), bool), 0.25, seed, MASK) == MASK
    assert np.flatnonzero(anew).tolist() == entries
