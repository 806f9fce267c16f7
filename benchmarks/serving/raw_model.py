"""RawModel: the bare loop over one static batch. What there is to be had, and what the peers serve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.serving.bundle import cache_of
from movq_core.params import UnmaskOrder
from movq_core.protocol import GenerateRequest
from movq_core.sampling.schedule import mask_plan, noise_plan
from movq_core.sampling.step import ALL_CODES, StepRows, unmask_step
from movq_core.tiles import Pixels
from worker.model_runner import ModelRunner


class RawModel:
    """The models as a worker holds them, without its rows, its engine and its queue."""

    def __init__(self, model_dir: Path) -> None:
        self._runner = ModelRunner(model_dir, rows=1, cache_dir=cache_of(model_dir))
        assert self._runner.bundle.maskgit is not None
        self.prior = self._runner.bundle.maskgit
        self.device = self._runner.device

    @torch.inference_mode()
    def codes(self, requests: Sequence[GenerateRequest], leave_early: bool = False) -> Tensor:
        """Codes (B, C, H, W) of one image a request, all in one batch until the last has its steps.

        With `leave_early` an image that has its steps is left out of the forward passes that follow.
        Raises ValueError for a request with guidance, which is not here.
        """
        if any(request.sampling.guidance_scale != 1.0 for request in requests):
            raise ValueError("the raw model has no guidance")
        config = self.prior.config
        plan = Plan(requests, config.codes_per_image, self.device)
        shape = (len(requests), config.code_channels, config.grid_size, config.grid_size)
        codes = torch.full(shape, self.prior.mask_code, device=self.device)
        class_ids = self._class_ids(requests)
        for step in range(plan.steps):
            riding = plan.riding(step) if leave_early else slice(None)
            logits = self.prior(codes[riding], class_ids[riding])
            rows = plan.rows(step, riding)
            codes[riding] = unmask_step(logits.float(), codes[riding], self.prior.mask_code, rows)
        return codes

    def images(self, requests: Sequence[GenerateRequest], leave_early: bool = False) -> list[Pixels]:
        """Pixels (h, w, 3) of one image a request; decoded one by one, for a batch of convolutions brings
        nothing on a CPU."""
        return [self._runner.decode(codes.numpy()) for codes in self.codes(requests, leave_early).cpu()]

    def _class_ids(self, requests: Sequence[GenerateRequest]) -> Tensor:
        null = self.prior.null_class
        classes = [null if request.class_id is None else request.class_id for request in requests]
        return torch.tensor(classes, device=self.device)


class Plan:
    """What each step needs to know of each request; tensors (steps, B). All zeros past a request's end."""

    def __init__(self, requests: Sequence[GenerateRequest], codes: int, device: torch.device) -> None:
        samplings = [request.sampling for request in requests]
        self._steps_of = [sampling.steps for sampling in samplings]
        self.steps = max(self._steps_of)
        self._seed = torch.tensor([sampling.seed for sampling in samplings], device=device)
        self._temperature = torch.tensor([sampling.temperature for sampling in samplings], device=device)
        self._n_masked = self._padded([mask_plan(s.mask_schedule, s.steps, codes) for s in samplings], device)
        self._top_k = torch.tensor([sampling.top_k or ALL_CODES for sampling in samplings], device=device)
        orders = [sampling.order for sampling in samplings]
        self._halton = torch.tensor([order == UnmaskOrder.HALTON for order in orders], device=device)
        self._noise_scale = self._padded([noise_plan(s) for s in samplings], device)

    def _padded(self, plans: Sequence[Sequence[float]], device: torch.device) -> Tensor:
        rows = [[*plan, *[0] * (self.steps - len(plan))] for plan in plans]
        return torch.tensor(rows, device=device).T

    def riding(self, step: int) -> list[int]:
        """Who still has this step before it."""
        return [place for place, steps in enumerate(self._steps_of) if step < steps]

    def rows(self, step: int, riding: list[int] | slice) -> StepRows:
        return StepRows(
            seed=self._seed[riding],
            step=torch.full_like(self._seed[riding], step),
            n_masked=self._n_masked[step][riding],
            temperature=self._temperature[riding],
            noise_scale=self._noise_scale[step][riding],
            top_k=self._top_k[riding],
            halton=self._halton[riding],
        )
