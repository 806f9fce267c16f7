"""EntropyCoder: codes to bytes and back with the prior's own probabilities; lossless.

The range coder is constriction's (Bamler 2022, arXiv 2201.01741). Encoder and decoder must agree on every
probability to the bit, on any machine: so the prior runs in float64 on the CPU, one grid at a time, and its
log-probabilities are rounded to quarters of a bit before they become integer weights. Two machines differ
in about the fourteenth digit; what that means is worked out in docs/compression.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import constriction
import numpy as np
import torch
from numpy.typing import NDArray

from movq_core.errors import InvalidMovqFile
from movq_core.models.maskgit import MaskGIT
from movq_core.tiles import Codes

DEFAULT_GROUPS = 8  # passes of the prior a grid; docs/compression.md measures 1 to 64
LEVELS_A_BIT = 4
# Weight of a log-probability of -level / 4 bits; whole numbers, so that every sum of them is exact.
_WEIGHTS = np.array(
    [round(2.0 ** (20 - level / LEVELS_A_BIT)) for level in range(20 * LEVELS_A_BIT + 1)], float
)

Block: TypeAlias = tuple[slice, slice, slice]  # of codes (C, H, W)
Entries: TypeAlias = tuple[NDArray[np.intp], ...]  # channels, rows, columns inside a block
Weights: TypeAlias = NDArray[np.float64]  # (entries, codebook_size)


def halton_positions(side: int) -> NDArray[np.intp]:
    """All side * side positions, each new one far from those before: Halton (2, 3), repeats left out.

    Whole numbers throughout: the order is the same on every machine. (side**2,)
    """
    order: dict[int, None] = {}
    index = 0
    while len(order) < side * side:
        index += 1
        order[_radical_inverse(index, 2, side) * side + _radical_inverse(index, 3, side)] = None
    return np.array(list(order), np.intp)


def _radical_inverse(index: int, base: int, side: int) -> int:
    """floor(side * the digits of `index` mirrored at the point)."""
    mirrored, scale = 0, 1
    while index:
        index, digit = divmod(index, base)
        mirrored, scale = mirrored * base + digit, scale * base
    return mirrored * side // scale


def coding_order(channels: int, side: int) -> NDArray[np.intp]:
    """All entries of a (channels, side, side) grid, flat: one of each channel in turn, each elsewhere.

    The channels follow one Halton walk, each a share of it ahead of the last: the codes of one
    position tell the most about each other, and so are coded far apart.
    """
    positions = halton_positions(side)
    walks = [np.roll(positions, -(channel * len(positions) // channels)) for channel in range(channels)]
    return np.stack([walk + channel * side**2 for channel, walk in enumerate(walks)], axis=1).ravel()


def group_bounds(entries: int, groups: int) -> list[int]:
    """Where groups end: `entries * (i / groups)**2`, few while little is known, and many at the end."""
    return sorted({entries * i * i // groups**2 for i in range(groups + 1)})


class EntropyCoder:
    """A prior as a model of codes, in float64 on the CPU whatever the bundle's device is.

    A picture larger than the prior's grid is cut into blocks of it, each coded alone. Where a block
    stands over the edge its absent entries stay masked: the prior knows how to look past masked
    entries, and nothing is spent on them.
    """

    def __init__(self, prior: MaskGIT) -> None:
        self._prior = copy.deepcopy(prior).double().cpu().eval()
        self._order = coding_order(prior.config.code_channels, prior.config.grid_size)

    def encode(self, codes: Codes, class_id: int | None = None, groups: int = DEFAULT_GROUPS) -> bytes:
        """Codes (C, H, W) as bytes; `class_id` None is the null class, `groups` the passes a block."""
        encoder = constriction.stream.queue.RangeEncoder()
        family = constriction.stream.model.Categorical(perfect=False)

        def write(block: Block, entries: Entries, weights: Weights) -> Codes:
            symbols = codes[block][entries]
            encoder.encode(symbols.astype(np.int32), family, weights)
            return symbols

        self._walk(codes.shape, class_id, groups, write)
        words: NDArray[np.uint32] = encoder.get_compressed()
        return words.astype(">u4").tobytes().rstrip(b"\0")  # the decoder reads zeros behind the end

    def decode(
        self,
        payload: bytes,
        shape: tuple[int, int, int],
        class_id: int | None = None,
        groups: int = DEFAULT_GROUPS,
    ) -> Codes:
        """The codes (C, H, W) of `shape` that `encode` was given.

        Wrong bytes give wrong codes, or InvalidMovqFile where they cannot be codes at all: hold the
        result against a checksum.
        """
        words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)
        decoder = constriction.stream.queue.RangeDecoder(words)
        family = constriction.stream.model.Categorical(perfect=False)

        def read(_block: Block, _entries: Entries, weights: Weights) -> Codes:
            symbols: NDArray[np.int32] = decoder.decode(family, weights)
            return symbols.astype(np.int64)

        try:
            return self._walk(shape, class_id, groups, read)
        except AssertionError as error:  # what the library raises for bytes that no encoder wrote
            raise InvalidMovqFile(f"the entropy-coded codes cannot be decoded: {error}") from error

    def _walk(
        self,
        shape: tuple[int, ...],
        class_id: int | None,
        groups: int,
        step: Callable[[Block, Entries, Weights], Codes],
    ) -> Codes:
        """All entries in their order; `step` writes or reads the codes of one group, and returns them."""
        side, mask_code = self._prior.config.grid_size, self._prior.mask_code
        codes = np.empty(shape, np.int64)
        with _one_thread():
            for block in blocks(shape, side):
                grid = np.full((shape[0], side, side), mask_code)
                inside = codes[block].shape
                for entries in self._groups(inside, groups):
                    grid[entries] = step(block, entries, self._weights(grid, class_id, entries))
                codes[block] = grid[:, : inside[1], : inside[2]]
        return codes

    def _groups(self, inside: tuple[int, ...], groups: int) -> Iterator[Entries]:
        """The entries of a block of shape `inside`, group by group."""
        side = self._prior.config.grid_size
        _, rows, columns = np.unravel_index(self._order, (inside[0], side, side))
        order = self._order[(rows < inside[1]) & (columns < inside[2])]
        for part in np.split(order, group_bounds(len(order), groups)[1:-1]):
            yield np.unravel_index(part, (inside[0], side, side))

    @torch.inference_mode()
    def _weights(self, grid: Codes, class_id: int | None, entries: Entries) -> Weights:
        """Whole-numbered weights (n, K) of each code at `entries`, given what `grid` (C, g, g) shows."""
        label = torch.tensor([self._prior.null_class if class_id is None else class_id])
        logits = self._prior(torch.from_numpy(grid)[None], label)[0][entries]
        levels = (
            logits.log_softmax(-1).mul(-LEVELS_A_BIT / math.log(2.0)).round().clamp(max=len(_WEIGHTS) - 1)
        )
        weights: Weights = _WEIGHTS[levels.long().numpy()]
        return weights


@contextmanager
def _one_thread() -> Iterator[None]:
    """One grid is too small to be worth sharing, and sums do not depend on how many cores split them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def blocks(shape: tuple[int, ...], side: int) -> Iterator[Block]:
    """The blocks of codes (C, H, W), row by row; those at the right and lower edges may be smaller."""
    for top in range(0, shape[1], side):
        for left in range(0, shape[2], side):
            yield slice(None), slice(top, top + side), slice(left, left + side)
