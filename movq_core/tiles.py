"""Tiles: images of any size through a tokenizer, one tile at a time.

Each tile is worked on with a margin of its neighbours and only its core is kept, so that convolutions see
across the seams. An image of at most one tile goes through whole. The encoder and the decoder are generators
that yield between tiles: the worker's engine steps other jobs there. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (height, width, 3), RGB
Codes = NDArray[np.int64]  # (code_channels, rows, columns)
Whole = TypeVar("Whole")

TILE_CELLS = 32  # 256 pixels a side at f = 8: large beside the margin, small beside a step
MARGIN_CELLS = 2  # the receptive field beyond it is all but dark


class Span(NamedTuple):
    """Cells of one axis: `outer` is worked on, `core` is kept; `inner` is the core inside the outer."""

    outer: slice
    core: slice
    inner: slice


def spans(cells: int, tile_cells: int | None = TILE_CELLS) -> Iterator[Span]:
    """Cores that cover `cells` without overlap, each with its margin inside the axis; None: one for all."""
    tile_cells = tile_cells or cells
    for start in range(0, cells, tile_cells):
        stop = min(start + tile_cells, cells)
        first, last = max(0, start - MARGIN_CELLS), min(cells, stop + MARGIN_CELLS)
        yield Span(slice(first, last), slice(start, stop), slice(start - first, stop - first))


def scaled(cells: slice, factor: int) -> slice:
    """The pixels of a slice of cells."""
    return slice(cells.start * factor, cells.stop * factor)


def padded(pixels: Pixels, factor: int) -> Pixels:
    """(h, w, 3) with its last row and column repeated up to multiples of `factor`."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")


def finish(tiles: Generator[None, None, Whole]) -> Whole:
    """The whole, when there is nothing else to do between tiles."""
    while True:
        try:
            next(tiles)
        except StopIteration as end:
            whole: Whole = end.value
            return whole


def encode_tiles(
    encode: Callable[[Pixels], Codes], pixels: Pixels, factor: int, tile_cells: int | None = TILE_CELLS
) -> Generator[None, None, Codes]:
    """Codes (C, ceil(h / f), ceil(w / f)) of pixels (h, w, 3) of any size; `tile_cells` None: in one pass."""
    whole = padded(pixels, factor)
    rows, columns = whole.shape[0] // factor, whole.shape[1] // factor
    codes: Codes | None = None
    for down in spans(rows, tile_cells):
        for across in spans(columns, tile_cells):
            tile = encode(whole[scaled(down.outer, factor), scaled(across.outer, factor)])
            if codes is None:
                codes = np.empty((tile.shape[0], rows, columns), np.int64)
            codes[:, down.core, across.core] = tile[:, down.inner, across.inner]
            yield
    assert codes is not None
    return codes


def decode_tiles(
    decode: Callable[[Codes], Pixels],
    codes: Codes,
    factor: int,
    size: tuple[int, int],
    tile_cells: int | None = TILE_CELLS,
) -> Generator[None, None, Pixels]:
    """Pixels (h, w, 3) of `size` (h, w) from codes (C, H, W) that cover it; `tile_cells` as above."""
    rows, columns = codes.shape[1:]
    pixels = np.empty((rows * factor, columns * factor, 3), np.uint8)
    for down in spans(rows, tile_cells):
        for across in spans(columns, tile_cells):
            tile = decode(codes[:, down.outer, across.outer])
            inner = tile[scaled(down.inner, factor), scaled(across.inner, factor)]
            pixels[scaled(down.core, factor), scaled(across.core, factor)] = inner
            yield
    return pixels[: size[0], : size[1]]
