"""What stands around an engine, in a few lines, for tests and measurements of the policy; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.tiles import Codes, Pixels

TINY = Manifest(
    name="tiny", movq=MOVQ_PRESETS["tiny"], maskgit=MASKGIT_PRESETS["tiny"], labels=("one", "two", "three")
)


class FakeRunner:
    """Keeps a log of (row, seed, step) and asserts that each row takes its steps in order, once each.

    An image of seed s is all s % 256. `before_step(seeds)` may raise, or wait.
    """

    def __init__(self, before_step: Callable[[list[int]], None] | None = None) -> None:
        self.manifest = TINY
        self.log: list[tuple[int, int, int]] = []
        self.batches: list[int] = []
        self._before_step = before_step
        self._rows: dict[int, tuple[int, int]] = {}  # row -> (seed, next step)

    def is_batch_invariant(self) -> bool:
        """An image of this device is its seed: nothing else can change it."""
        return True

    def start(self, row: int, class_id: int | None, sampling: SamplingParams) -> None:
        del class_id
        self._rows[row] = (sampling.seed, 0)

    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        if self._before_step is not None:
            self._before_step([self.seed_of(row) for row in rows])
        self.batches.append(len(rows))
        for row, step in zip(rows, steps, strict=True):
            seed, expected = self._rows[row]
            assert step == expected, f"row {row} took step {step}, not {expected}"
            self._rows[row] = (seed, step + 1)
            self.log.append((row, seed, step))

    def seed_of(self, row: int) -> int:
        return self._rows[row][0]

    def finish(self, rows: Sequence[int]) -> list[FakeImage]:
        return [FakeImage(self, self._rows.pop(row)[0]) for row in rows]

    def encode(self, pixels: Pixels) -> Codes:
        factor = self.manifest.movq.downsampling_factor
        cells = pixels[::factor, ::factor, 0].astype(np.int64) % self.manifest.movq.codebook_size
        return np.stack([cells] * self.manifest.movq.code_channels)

    def decode(self, codes: Codes) -> Pixels:
        factor = self.manifest.movq.downsampling_factor
        image = codes[0].astype(np.uint8).repeat(factor, 0).repeat(factor, 1)
        return np.stack([image] * 3, axis=-1)


@dataclass(frozen=True)
class FakeImage:
    """An image that is decoded when its pixels are asked for, as on the CPU."""

    runner: FakeRunner
    seed: int

    def ready(self) -> bool:
        return True

    def pixels(self) -> Pixels:
        config = self.runner.manifest.movq
        shape = (config.code_channels, config.grid_size, config.grid_size)
        return self.runner.decode(np.full(shape, self.seed % 256, np.int64))


class SilentMetrics:
    """EngineMetrics that count nothing."""

    def step(self, rows: int, seconds: float) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def rows(self, running: int, waiting: int) -> None: ...
