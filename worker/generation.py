"""Generation: one image in flight."""

from __future__ import annotations

from dataclasses import dataclass

from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import GenerateRequest


@dataclass(eq=False)
class Generation:
    """Image `index` of a job, from its admission to its last step; written by the engine thread alone.

    `row` is its place in the batch while it runs; `step` counts the steps already taken.
    """

    job_id: str
    index: int
    class_id: int | None
    sampling: SamplingParams
    row: int | None = None
    step: int = 0

    @property
    def finished(self) -> bool:
        return self.step >= self.sampling.steps


def generations_of(job_id: str, request: GenerateRequest) -> list[Generation]:
    """One Generation an image, each with its own seed."""
    return [
        Generation(
            job_id,
            index,
            request.class_id,
            request.sampling.model_copy(update={"seed": derived_seed(request.sampling.seed, index)}),
        )
        for index in range(request.num_images)
    ]
