"""Sampling code after code: H*W*C forward passes with a cache, where MaskGIT takes a dozen."""

from __future__ import annotations

import torch
from torch import Tensor

from movq_core.models.autoregressive import Autoregressive
from movq_core.sampling.guidance import guide
from movq_core.sampling.noise import uniforms
from movq_core.sampling.step import draw_codes


@torch.inference_mode()
def generate_in_order(
    prior: Autoregressive,
    class_ids: Tensor,
    seeds: Tensor,
    temperature: float = 1.0,
    guidance_scale: float = 1.0,
) -> Tensor:
    """Codes (B, C, H, W) of B images: class_ids (B,) (`null_class` for none), seeds (B,) int64.

    The noise is a function of (seed, code number): what shares the batch changes no draw.
    """
    config, batch = prior.config, len(class_ids)
    guided = guidance_scale != 1.0
    before = torch.cat([class_ids, torch.full_like(class_ids, prior.null_class)]) if guided else class_ids
    caches = prior.empty_caches(len(before))
    noise, _ = uniforms(seeds, torch.zeros_like(seeds), config.codes_per_image)
    heat = torch.full((batch,), temperature, device=seeds.device)
    scale = torch.full((batch,), guidance_scale, device=seeds.device)
    drawn = []
    for place in range(config.codes_per_image):
        logits = prior.next_logits(before, place, caches)
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = guide(conditional, unconditional, scale)
        codes, _ = draw_codes(logits[:, None].float(), heat, noise[:, place : place + 1])
        drawn.append(codes[:, 0])
        before = drawn[-1].repeat(2) if guided else drawn[-1]
    in_order = torch.stack(drawn, dim=1).unflatten(1, (config.grid_size, config.grid_size, -1))
    return in_order.permute(0, 3, 1, 2).contiguous()
