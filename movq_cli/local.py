"""LocalModel: a bundle in this process, for commands without a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ValidationError

from movq_core import tiles
from movq_core.bundle import ModelBundle
from movq_core.edit_area import EditArea
from movq_core.edits import code_mask, remasked
from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.params import EditParams, SamplingParams, derived_seed
from movq_core.protocol import Tiling
from movq_core.sampling.pixels import PixelTokenizer
from movq_core.sampling.sampler import Sampler
from movq_core.tiles import TILE_CELLS, Codes, Pixels
from movq_core.window import Window

Params = TypeVar("Params", bound=BaseModel)

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
        return self._made(class_id, _each(sampling, num_images), None, stepped)

    def edit(
        self,
        area: EditArea,
        params: EditParams,
        class_id: int | None,
        sampling: SamplingParams,
        num_images: int,
        stepped: Callable[[float], None],
    ) -> list[tuple[int, Pixels]]:
        """Seeds and pixels of `num_images` edits of `area.image`, as large as it; otherwise as `generate`."""
        movq, each = self.manifest.movq, _each(sampling, num_images)
        mask = np.ones(area.image.shape[:2], np.bool_) if area.mask is None else area.mask
        window = Window.around(area.image, mask, movq.image_size, params.feather_px)
        codes = self._encode(window.pixels(movq.image_size))
        cells = code_mask(window.touched(movq.image_size), movq.downsampling_factor)
        known = [remasked(codes, cells, params.strength, own.seed, movq.codebook_size) for own in each]
        made = self._made(class_id, each, known, stepped)
        return [(seed, window.paste(pixels)) for seed, pixels in made]

    def reconstruct(self, pixels: Pixels, tiling: Tiling) -> tuple[Pixels, Codes]:
        """Pixels (h, w, 3) of any size through the codes and back, and the codes."""
        factor = self.manifest.movq.downsampling_factor
        cells = TILE_CELLS if tiling is Tiling.TILES else None
        codes = tiles.finish(tiles.encode_tiles(self._encode, pixels, factor, cells))
        size = pixels.shape[0], pixels.shape[1]
        return tiles.finish(tiles.decode_tiles(self._decode, codes, factor, size, cells)), codes

    def _made(
        self,
        class_id: int | None,
        each: Sequence[SamplingParams],
        known: Sequence[Codes] | None,
        stepped: Callable[[float], None],
    ) -> list[tuple[int, Pixels]]:
        """Seeds and pixels, an image for `each`; `known`: the codes (C, H, W) that each keeps of its own."""
        if self._bundle.maskgit is None:
            raise InvalidRequest(
                f"The model {self.manifest.name} has no prior: it reconstructs, but cannot generate or edit."
            )
        rows, steps = range(len(each)), each[0].steps
        sampler = Sampler(self._bundle.maskgit, len(rows))
        for row in rows:
            sampler.start(row, class_id, each[row], None if known is None else torch.from_numpy(known[row]))
        for step in range(steps):
            sampler.step(rows, [step] * len(rows))
            stepped((step + 1) / steps)
        codes = sampler.codes(rows).numpy()
        return [(own.seed, self._decode(image)) for own, image in zip(each, codes, strict=True)]

    def _encode(self, pixels: Pixels) -> Codes:
        codes: Codes = self._tokenizer.encode(torch.from_numpy(np.ascontiguousarray(pixels))[None])[0].numpy()
        return codes

    def _decode(self, codes: Codes) -> Pixels:
        batch = torch.from_numpy(np.ascontiguousarray(codes))[None]
        pixels: Pixels = self._tokenizer.decode(batch)[0].numpy()
        return pixels


def sampling_of(manifest: Manifest, chosen: Mapping[str, Any]) -> SamplingParams:
    """The model's own choices, overridden by what was chosen; raises InvalidRequest when out of bounds."""
    return _valid(SamplingParams, {**manifest.sampling.model_dump(), **chosen})


def edit_params_of(chosen: Mapping[str, Any]) -> EditParams:
    """What was chosen of an edit; raises InvalidRequest when out of bounds."""
    return _valid(EditParams, chosen)


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


def _each(sampling: SamplingParams, num_images: int) -> list[SamplingParams]:
    """One for each image of a request, with its own seed."""
    seeds = [derived_seed(sampling.seed, index) for index in range(num_images)]
    return [sampling.model_copy(update={"seed": seed}) for seed in seeds]


def _valid(kind: type[Params], chosen: Mapping[str, Any]) -> Params:
    try:
        return kind.model_validate(chosen)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}, but was {first['input']}.") from error
