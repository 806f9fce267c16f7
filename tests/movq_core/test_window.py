"""Windows: whatever the image and its mask, nothing outside mask and feather changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from movq_core.window import Window

SIZES = st.sampled_from([16, 64, 256])


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.bool_]:
    """A mask of any size: a few boxes, strokes of one pixel among them."""
    height, width = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    mask = np.zeros((height, width), np.bool_)
    for _ in range(draw(st.integers(1, 3))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
        if draw(st.booleans()):
            bottom = top + 1
        mask[top:bottom, left:right] = True
    return mask


@settings(deadline=None)
@given(masks(), SIZES, st.integers(0, 40))
def test_the_window_has_room_for_mask_and_feather_and_is_no_larger_than_it_must(
    mask: NDArray[np.bool_], size: int, feather_px: int
) -> None:
    window = Window.around(photo(*mask.shape), mask, size, feather_px)
    near = distance_transform_edt(~mask) <= feather_px
    near[window.rows, window.columns] = False
    assert not near.any(), "a pixel that is to be blended lies outside the window"
    extents = [np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1)]
    longest = max(int(places[-1] - places[0]) + 1 for places in extents)
    side = max(1.5 * longest, longest + 2 * feather_px, size)
    for part, length in zip((window.rows, window.columns), mask.shape, strict=True):
        assert 0 <= part.start < part.stop <= length
        assert part.stop - part.start == min(int(side), length)


@settings(deadline=None)
@given(masks(), SIZES)
def test_the_model_sees_a_square_and_of_the_mask_every_pixel(mask: NDArray[np.bool_], size: int) -> None:
    image = photo(*mask.shape)
    window = Window.around(image, mask, size, 8)
    pixels, touched = window.pixels(size), window.touched(size)
    assert pixels.shape == (size, size, 3)
    assert touched.shape == (size, size)
    down, across = window._places(size)
    part = mask[window.rows, window.columns]
    for row, column in np.argwhere(part)[:: max(1, part.sum() // 50)]:
        rows = overlapped(row, part.shape[0], down)
        columns = overlapped(column, part.shape[1], across)
        assert touched[rows, columns].all(), "a pixel of the mask left no trace"
    outside = np.ones((size, size), np.bool_)
    outside[down, across] = False
    assert not touched[outside].any(), "where the edge is repeated nothing is to be made"


def overlapped(place: int, length: int, shown: slice) -> slice:
    """The places in `shown` that lie over place `place` of `length`, however little."""
    scaled = shown.stop - shown.start
    first, last = place * scaled // length, -(-(place + 1) * scaled // length)
    return slice(shown.start + first, shown.start + last)


@settings(deadline=None)
@given(masks(), SIZES, st.integers(0, 40))
def test_pasting_changes_the_mask_wholly_and_nothing_beyond_the_feather(
    mask: NDArray[np.bool_], size: int, feather_px: int
) -> None:
    image = photo(*mask.shape)
    window = Window.around(image, mask, size, feather_px)
    new = np.full((size, size, 3), 77, np.uint8)
    pasted = window.paste(new)
    assert pasted.shape == image.shape
    assert (pasted[mask] == 77).all()
    beyond = distance_transform_edt(~mask) > feather_px
    if not mask.all():
        assert np.array_equal(pasted[beyond], image[beyond])
    low, high = np.minimum(image, 77).astype(int), np.maximum(image, 77).astype(int)
    assert ((low - 1 <= pasted) & (pasted <= high + 1)).all(), "a blend lies between what it blends"


@settings(deadline=None)
@given(masks())
def test_the_feather_fades_with_the_distance(mask: NDArray[np.bool_]) -> None:
    black = np.zeros((*mask.shape, 3), np.uint8)
    window = Window.around(black, mask, 16, 10)
    opacity = window.paste(np.full((16, 16, 3), 255, np.uint8))[..., 0].astype(int)
    distance = distance_transform_edt(~mask) if not mask.all() else np.zeros(mask.shape)
    expected = np.where(distance <= 10, 255 * (1 - distance / 11), 0)
    assert np.abs(opacity - expected).max() <= 1


@pytest.mark.parametrize("shape", [(64, 64), (64, 40), (20, 64)])
def test_an_image_of_the_models_size_is_not_resampled(shape: tuple[int, int]) -> None:
    image, mask = photo(*shape), np.zeros(shape, np.bool_)
    mask[10:15, 7:30] = True
    window = Window.around(image, mask, 64, 8)
    down, across = window._places(64)
    assert np.array_equal(window.pixels(64)[down, across], image)
    assert np.array_equal(window.touched(64)[down, across], mask)
    new = photo(64, 64, seed=1)
    assert np.array_equal(window.paste(new)[mask], new[down, across][mask])


def test_a_small_mask_in_a_large_image_is_made_at_full_resolution() -> None:
    image, mask = photo(500, 400), np.zeros((500, 400), np.bool_)
    mask[490:, 390:] = True
    window = Window.around(image, mask, 64, 8)
    assert (window.rows, window.columns) == (slice(436, 500), slice(336, 400)), "in the corner, and inside"
    assert np.array_equal(window.pixels(64), image[436:, 336:])


def test_where_the_image_is_too_narrow_its_edge_is_repeated() -> None:
    image = photo(4, 16)
    pixels = Window.around(image, np.ones((4, 16), np.bool_), 16, 0).pixels(16)
    assert np.array_equal(pixels[6:10], image)
    assert (pixels[:6] == image[0]).all()
    assert (pixels[10:] == image[3]).all()


def test_a_long_thin_image_costs_no_square_of_its_length() -> None:
    """A square of 400,000 pixels a side has 480 gigabytes."""
    image, mask = photo(1, 400_000), np.zeros((1, 400_000), np.bool_)
    mask[0, ::1000] = True
    window = Window.around(image, mask, 64, 2)
    assert window.pixels(64).shape == (64, 64, 3)
    assert window.touched(64).any(axis=0).all()
    assert (window.paste(np.full((64, 64, 3), 5, np.uint8))[mask] == 5).all()
