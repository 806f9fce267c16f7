"""Images to train on: kept in memory or read from their files, drawn as batches and as versions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from movq_core.training.data import Crops, Versions, base_weights, versions_of
from movq_core.training.image_file import Framing


class Squares(Protocol):
    """Images by row."""

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """RGB (n, side, side, 3) of the rows (n,)."""
        ...


@dataclass(frozen=True)
class CachedSquares:
    """Squares that were decoded before, in a memory-mapped array: what is used stays in memory."""

    array: NDArray[np.uint8]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        squares: NDArray[np.uint8] = self.array[rows]
        return squares


@dataclass(frozen=True)
class LazySquares:
    """Squares decoded when they are read, in a few threads: Pillow lets go of the interpreter's lock."""

    files: Sequence[Path]
    framing: Framing

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count())

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        squares = self._pool.map(lambda row: self.framing.square(self.files[row].read_bytes()), rows)
        return np.stack(list(squares))


@dataclass(frozen=True)
class ImageSet:
    """Images to train on or to hold out: `rows`, `classes` and `bases` (N,); a base is a file's content."""

    squares: Squares
    framing: Framing
    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    bases: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, which: NDArray[Any]) -> ImageSet:
        return replace(self, rows=self.rows[which], classes=self.classes[which], bases=self.bases[which])

    def one_per_base(self) -> ImageSet:
        """Copies of one file count once."""
        return self.select(np.sort(np.unique(self.bases, return_index=True)[1]))

    def pixels(self) -> Tensor:
        """All of them, their middle: (N, 3, size, size) in [-1, 1]."""
        return torch.cat([versions.pixels[:, 0] for versions in self.versions(1)])

    def versions(
        self, count: int, flip: bool = False, rng: np.random.Generator | None = None, at_once: int = 64
    ) -> Iterator[Versions]:
        """Each image in `count` versions, `at_once` images at a time: its middle, then random crops of it."""
        rng = rng or np.random.default_rng(0)
        for start in range(0, len(self), at_once):
            part = slice(start, start + at_once)
            pixels = versions_of(self.squares.read(self.rows[part]), self.framing.size, count, flip, rng)
            yield Versions(pixels, self.classes[part], self.bases[part])


@dataclass(frozen=True)
class FolderBatches:
    """Batches for the tokenizer: random crops, half of them mirrored where `flip`; copies count once."""

    images: ImageSet
    batch_size: int
    flip: bool = True

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        return np.cumsum(base_weights(self.images.bases))

    def draw(self, rng: np.random.Generator, part: slice = slice(None)) -> Tensor:
        """Rows `part` of a batch: (n, 3, size, size) in [-1, 1]; only they are read."""
        framing = self.images.framing
        chosen = self._cumulative.searchsorted(rng.random(self.batch_size), side="right")
        chosen = chosen.clip(max=len(self.images) - 1)  # a sum of shares may end a little below 1
        crops = Crops.draw(self.batch_size, framing.room, self.flip, rng)
        return crops[part].of(self.images.squares.read(self.images.rows[chosen[part]]), framing.size)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: `rng` alone decides."""
