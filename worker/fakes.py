"""What stands around an engine, in a few lines, for tests and measurements of the policy; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.tiles import Codes, Pixels

TINY = Manifest(
    name="tiny", movq=MOVQ_PRESETS["tiny"], maskgit=MASKGIT_PRESETS["tiny"], labels=("one", "two", "three")
)


@dataclass
class FakeRow:
    """An image in flight: its seed, the codes it was given, and how many of its steps it has taken."""

    seed: int
    steps: int
    known: Codes
    taken: int = 0

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(C, H, W): what the image was started to make."""
        masked: NDArray[np.bool_] = self.known == TINY.movq.codebook_size
        return masked

    @property
    def codes(self) -> Codes:
        """What was known, and for the rest the seed."""
        codes: Codes = np.where(self.masked, self.seed % 256, self.known)
        return codes


class FakeRunner:
    """Keeps a log of (row, seed, step) and asserts that each row takes its steps in order, once each.

    An image of seed s is all s % 256, but for its known codes; a preview of it grows opaque step by step.
    `before_step(seeds)` may raise, or wait.
    """

    def __init__(self, before_step: Callable[[list[int]], None] | None = None) -> None:
        self.manifest = TINY
        self.log: list[tuple[int, int, int]] = []
        self.batches: list[int] = []
        self._before_step = before_step
        self.previewed: list[tuple[int, int]] = []  # (seed, steps taken) of each preview
        self._rows: dict[int, FakeRow] = {}

    def memory_bytes(self) -> dict[str, int]:
        """It has none of its own."""
        return {}

    def is_batch_invariant(self) -> bool:
        """An image of this device is its seed: nothing else can change it."""
        return True

    def start(
        self, row: int, class_id: int | None, sampling: SamplingParams, known: Codes | None = None
    ) -> None:
        del class_id
        config = self.manifest.movq
        shape = (config.code_channels, config.grid_size, config.grid_size)
        known = np.full(shape, config.codebook_size) if known is None else known
        assert known.shape == shape, f"known codes are {shape}, not {known.shape}"
        self._rows[row] = FakeRow(sampling.seed, sampling.steps, known)

    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        if self._before_step is not None:
            self._before_step([self.seed_of(row) for row in rows])
        self.batches.append(len(rows))
        for row, step in zip(rows, steps, strict=True):
            its = self._rows[row]
            assert step == its.taken, f"row {row} took step {step}, not {its.taken}"
            its.taken += 1
            self.log.append((row, its.seed, step))

    def seed_of(self, row: int) -> int:
        return self._rows[row].seed

    def preview(self, row: int) -> Pixels:
        its = self._rows[row]
        self.previewed.append((its.seed, its.taken))
        factor = self.manifest.movq.downsampling_factor
        opaque = np.where(its.masked, 255 * its.taken / its.steps, 255).mean(0).round().astype(np.uint8)
        return np.dstack([self.decode(its.codes), opaque.repeat(factor, 0).repeat(factor, 1)])

    def finish(self, rows: Sequence[int]) -> list[FakeImage]:
        return [FakeImage(self, self._rows.pop(row).codes) for row in rows]

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
    codes: Codes

    def ready(self) -> bool:
        return True

    def pixels(self) -> Pixels:
        return self.runner.decode(self.codes)


class SilentMetrics:
    """EngineMetrics that count nothing."""

    def step(self, rows: int, seconds: float) -> None: ...
    def decoded(self, seconds: float) -> None: ...
    def rows(self, running: int, waiting: int) -> None: ...
