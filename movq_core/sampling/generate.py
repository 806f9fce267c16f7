"""The naive loop: one image, one step after another. The oracle of the engine."""

from __future__ import annotations

import torch
from torch import Tensor

from movq_core.models.maskgit import MaskGIT
from movq_core.params import SamplingParams
from movq_core.sampling.guidance import guide
from movq_core.sampling.schedule import mask_plan
from movq_core.sampling.step import StepRows, unmask_step


def step_rows(
    params: list[SamplingParams], steps: list[int], plans: list[tuple[int, ...]], device: torch.device | str
) -> StepRows:
    """The rows of one step: row i stands at `steps[i]` of `params[i]`, whose mask plan is `plans[i]`."""
    # (step + 1) / steps is the progress after this step: the noise fades as codes settle.
    fades = [p.choice_temperature * (1.0 - (s + 1) / p.steps) for p, s in zip(params, steps, strict=True)]
    return StepRows(
        seed=torch.tensor([p.seed for p in params], device=device),
        step=torch.tensor(steps, device=device),
        n_masked=torch.tensor([plan[s] for plan, s in zip(plans, steps, strict=True)], device=device),
        temperature=torch.tensor([p.temperature for p in params], device=device),
        noise_scale=torch.tensor(fades, device=device),
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
        logits = prior(codes, label)
        if class_id is not None and params.guidance_scale != 1.0:
            scale = torch.tensor([params.guidance_scale], device=device)
            logits = guide(logits, prior(codes, null), scale)
        codes = unmask_step(logits, codes, prior.mask_code, step_rows([params], [step], [plan], device))
    return codes
