"""LocalModel: a bundle in this process, for commands without a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from movq_core import tiles
from movq_core.bundle import ModelBundle
from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import Tiling
from movq_core.sampling.pixels import PixelTokenizer
from movq_core.sampling.sampler import Sampler
from movq_core.tiles import TILE_CELLS, Codes, Pixels

CACHE = "data/cache"  # where `movq up` keeps the forms that are fastest here: same forms, same bytes


class LocalModel:
    """Computes on the CPU what a worker there does: the same codes, and the same pixels to the bit."""

    def __init__(self, folder: Path) -> None:
        self._bundle = ModelBundle.load(folder)
        cache = Path(os.environ.get("MOVQ_CACHE_DIR", CACHE))
        self._tokenizer = PixelTokenizer(self._bundle.movq.optimized(folder=cache))

    @property
    def manifest(self) -> Manifest:
        return self._bundle.manifest

    def generate(
        self,
        class_id: int | None,
        sampling: SamplingParams,
        num_images: int,
        stepped: Callable[[float], None],
    ) -> list[tuple[int, Pixels]]:
        """Seeds and pixels (h, w, 3) of `num_images` images; `stepped` hears the share of steps taken.

        Raises InvalidRequest when the bundle has no prior.
        """
        if self._bundle.maskgit is None:
            raise InvalidRequest(f"The model {self.manifest.name} has no prior: it cannot generate.")
        seeds = [derived_seed(sampling.seed, index) for index in range(num_images)]
        sampler = Sampler(self._bundle.maskgit, rows=num_images)
        for row, seed in enumerate(seeds):
            sampler.start(row, class_id, sampling.model_copy(update={"seed": seed}))
        for step in range(sampling.steps):
            sampler.step(range(num_images), [step] * num_images)
            stepped((step + 1) / sampling.steps)
        codes = sampler.codes(range(num_images)).numpy()
        return [(seed, self._decode(image)) for seed, image in zip(seeds, codes, strict=True)]

    def reconstruct(self, pixels: Pixels, tiling: Tiling) -> tuple[Pixels, Codes]:
        """Pixels (h, w, 3) of any size through the codes and back, and the codes."""
        factor = self.manifest.movq.downsampling_factor
        cells = TILE_CELLS if tiling is Tiling.TILES else None
        codes = tiles.finish(tiles.encode_tiles(self._encode, pixels, factor, cells))
        size = pixels.shape[0], pixels.shape[1]
        return tiles.finish(tiles.decode_tiles(self._decode, codes, factor, size, cells)), codes

    def _encode(self, pixels: Pixels) -> Codes:
        codes: Codes = self._tokenizer.encode(torch.from_numpy(np.ascontiguousarray(pixels))[None])[0].numpy()
        return codes

    def _decode(self, codes: Codes) -> Pixels:
        batch = torch.from_numpy(np.ascontiguousarray(codes))[None]
        pixels: Pixels = self._tokenizer.decode(batch)[0].numpy()
        return pixels


def sampling_of(manifest: Manifest, chosen: Mapping[str, Any]) -> SamplingParams:
    """The model's own choices, overridden by what was chosen; raises InvalidRequest when out of bounds."""
    try:
        return SamplingParams.model_validate({**manifest.sampling.model_dump(), **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}, but was {first['input']}.") from error


def class_id_of(manifest: Manifest, name: str | None, class_id: int | None) -> int | None:
    """The class's number; None is no class. Raises InvalidRequest when there is no such class."""
    labels = manifest.labels
    if name is not None and name not in labels:
        raise InvalidRequest(f"There is no class {name!r}; allowed are {', '.join(labels) or 'none'}.")
    if class_id is not None and class_id >= len(labels):
        raise InvalidRequest(f"There is no class {class_id}; the model has {len(labels)}, from 0 on.")
    if name is not None and class_id not in (None, labels.index(name)):
        raise InvalidRequest(f"Class {class_id} is not {name!r}; give one of them.")
    return class_id if name is None else labels.index(name)
