"""Generation: one image in flight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from movq_core.manifest import Manifest
from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import EditRequest, GenerateRequest
from movq_core.sampling.schedule import mask_plan
from movq_core.tiles import Codes


@dataclass(eq=False)
class Generation:
    """Image `index` of a job, from its admission to its last step; written by the engine thread alone.

    `codes_per_image` is how many codes it has, and `masked` how many of them it begins without: all of them,
    or what an edit's `known` codes (C, H, W) leave open. `row` is its place in the batch while it runs;
    `step` counts the steps already taken, `previewed_step` of them at the last preview, at `previewed_s`.
    """

    job_id: str
    index: int
    class_id: int | None
    sampling: SamplingParams
    codes_per_image: int
    masked: int
    known: Codes | None = None
    row: int | None = None
    step: int = 0
    previewed_step: int = 0
    previewed_s: float = -math.inf

    @property
    def finished(self) -> bool:
        return self.step >= self.sampling.steps

    @property
    def known_share(self) -> float:
        """Of its codes, those that are settled after the steps taken."""
        masked = self._plan[self.step - 1] if self.step else self.masked
        return 1.0 - masked / self.codes_per_image

    @cached_property
    def _plan(self) -> tuple[int, ...]:
        return mask_plan(self.sampling.mask_schedule, self.sampling.steps, self.masked)


def seeds_of(request: GenerateRequest | EditRequest) -> list[int]:
    """The seed of each of a request's images."""
    return [derived_seed(request.sampling.seed, index) for index in range(request.num_images)]


def generations_of(
    job_id: str, request: GenerateRequest | EditRequest, manifest: Manifest, known: list[Codes] | None = None
) -> list[Generation]:
    """One Generation an image, each with its own seed, and an edit's each with its own `known` codes."""
    assert manifest.maskgit is not None, "only a prior makes images"
    codes_per_image, mask_code = manifest.maskgit.codes_per_image, manifest.maskgit.codebook_size
    return [
        Generation(
            job_id,
            index,
            request.class_id,
            request.sampling.model_copy(update={"seed": seed}),
            codes_per_image,
            int(np.count_nonzero(known[index] == mask_code)) if known else codes_per_image,
            known[index] if known else None,
        )
        for index, seed in enumerate(seeds_of(request))
    ]
