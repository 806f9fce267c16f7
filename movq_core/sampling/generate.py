"""The naive loop: one image, one step after another. The oracle of the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from movq_core.models.maskgit import MaskGIT
from movq_core.params import SamplingParams, UnmaskOrder
from movq_core.sampling.guidance import guide
from movq_core.sampling.schedule import guidance_plan, mask_plan, noise_plan
from movq_core.sampling.step import ALL_CODES, StepRows, unmask_step


def step_rows(params: SamplingParams, step: int, n_masked: int, device: torch.device) -> StepRows:
    """The one row of a step: step number `step` of `params`, after which `n_masked` codes stay masked."""
    return StepRows(
        seed=torch.tensor([params.seed], device=device),
        step=torch.tensor([step], device=device),
        n_masked=torch.tensor([n_masked], device=device),
        temperature=torch.tensor([params.temperature], device=device),
        noise_scale=torch.tensor([noise_plan(params)[step]], device=device),
        top_k=torch.tensor([params.top_k or ALL_CODES], device=device),
        halton=torch.tensor([params.order == UnmaskOrder.HALTON], device=device),
    )


@torch.inference_mode()
def generate_codes(
    prior: MaskGIT, class_id: int | None, params: SamplingParams, known: Tensor | None = None
) -> Tensor:
    """Codes (1, C, H, W) of one image.

    `class_id` None is unconditional. `known` (1, C, H, W), with `mask_code` where the image is to be made,
    keeps its codes: inpainting.
    """
    config, device = prior.config, next(prior.parameters()).device
    shape = (1, config.code_channels, config.grid_size, config.grid_size)
    codes = torch.full(shape, prior.mask_code, device=device) if known is None else known.clone()
    plan = mask_plan(params.mask_schedule, params.steps, int((codes == prior.mask_code).sum()))
    label = torch.tensor([prior.null_class if class_id is None else class_id], device=device)
    null = torch.full_like(label, prior.null_class)
    for step in range(params.steps):
        logits = prior(codes, label).float()
        if class_id is not None and params.guidance_scale != 1.0:
            scale = torch.tensor([guidance_plan(params)[step]], device=device)
            logits = guide(logits, prior(codes, null).float(), scale)
        codes = unmask_step(logits, codes, prior.mask_code, step_rows(params, step, plan[step], device))
    return codes
