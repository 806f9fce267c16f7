"""Tiles: every cell once, any size, margins inside the image."""

import numpy as np
import pytest

from movq_core.tiles import MARGIN_CELLS, TILE_CELLS, decode_tiles, encode_tiles, finish, padded, spans
from worker.fakes import FakeRunner


def drive(generator):
    """Run a generator to its end; its result and the number of its pauses."""
    pauses = 0
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value, pauses
        pauses += 1


@pytest.mark.parametrize("cells", [1, TILE_CELLS, TILE_CELLS + 1, 5 * TILE_CELLS - 3])
def test_cores_cover_the_axis_once(cells):
    kept = [i for span in spans(cells) for i in range(span.core.start, span.core.stop)]
    assert kept == list(range(cells))
    for span in spans(cells):
        outer = list(range(cells))[span.outer]
        assert outer[span.inner] == list(range(span.core.start, span.core.stop))
        assert len(outer) <= TILE_CELLS + 2 * MARGIN_CELLS


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (4, 4), (300, 131)])
def test_the_answer_has_the_size_that_went_in(size):
    runner, factor = FakeRunner(), 4
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 32, (*size, 3), np.uint8)
    codes, pauses = drive(encode_tiles(runner.encode, pixels, factor))
    assert codes.shape == (2, -(-size[0] // factor), -(-size[1] // factor))
    assert pauses == len(list(spans(codes.shape[1]))) * len(list(spans(codes.shape[2])))
    image = finish(decode_tiles(runner.decode, codes, factor, size))
    assert image.shape == (*size, 3)
    # the fake keeps each cell's top left pixel: every tile must have landed at its place
    assert np.array_equal(codes[0], padded(pixels, factor)[::factor, ::factor, 0])
    assert np.array_equal(image[::factor, ::factor, 0], pixels[::factor, ::factor, 0])


def test_without_tiles_the_image_is_worked_on_in_one_pass():
    runner, factor, size = FakeRunner(), 4, (301, 130)
    pixels = np.random.default_rng(0).integers(0, 32, (*size, 3), np.uint8)
    codes, pauses = drive(encode_tiles(runner.encode, pixels, factor, None))
    assert pauses == 1
    assert np.array_equal(codes, runner.encode(padded(pixels, factor)))
    whole = runner.decode(codes)[: size[0], : size[1]]
    assert np.array_equal(finish(decode_tiles(runner.decode, codes, factor, size, None)), whole)


def test_a_small_image_is_worked_on_whole():
    calls = []

    def encode(pixels):
        calls.append(pixels.shape)
        return FakeRunner().encode(pixels)

    finish(encode_tiles(encode, np.zeros((100, 120, 3), np.uint8), 4))
    assert calls == [(100, 120, 3)]
