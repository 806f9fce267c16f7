"""Classifier-free guidance, one formula everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, guidance_scale: Tensor) -> Tensor:
    """`uncond + s * (cond - uncond)`, per row; logits (B, ...), guidance_scale (B,)."""
    scale = guidance_scale.view(-1, *[1] * (conditional.dim() - 1))
    return torch.addcmul(unconditional, scale, conditional - unconditional)
