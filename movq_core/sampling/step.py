"""One step of iterative parallel decoding, pure and per row.

After google-research/maskgit `libml/parallel_decode.py`, with everything that is one number there
(step, steps, temperature, seed) one number a row here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from movq_core.sampling.noise import uniforms


@dataclass(frozen=True)
class StepRows:
    """What one step needs to know about each of its B rows; every field (B,).

    `n_masked`: entries that stay masked after this step (0 at the last).
    `noise_scale`: `choice_temperature * (1 - ratio)` of this step.
    """

    seed: Tensor  # int64
    step: Tensor  # int64
    n_masked: Tensor  # int64
    temperature: Tensor  # float32
    noise_scale: Tensor  # float32


def draw_codes(logits: Tensor, temperature: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A code an entry by inverse CDF, and its log-probability.

    logits (B, N, K) float32, temperature (B,), uniform (B, N) in (0, 1) -> codes and log_p (B, N).
    """
    log_p = torch.log_softmax(logits / temperature[:, None, None], dim=-1)
    cdf = log_p.exp().cumsum(-1)
    # The sum of K rounded probabilities is not exactly 1: aim at the sum that is there.
    target = uniform * cdf[..., -1]
    codes = torch.searchsorted(cdf, target[..., None]).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return codes, log_p.gather(-1, codes[..., None]).squeeze(-1)


def unmask_step(logits: Tensor, codes: Tensor, mask_code: int, rows: StepRows) -> Tensor:
    """Draw every masked entry, keep the confident, mask the other `n_masked` again.

    logits (B, C, H, W, K); codes (B, C, H, W) with `mask_code` where masked -> codes (B, C, H, W).
    Known codes never change. Sampling is in float32 whatever the logits are.
    """
    batch = len(codes)
    flat = codes.reshape(batch, -1)  # (B, N)
    masked = flat == mask_code
    uniform, choice = uniforms(rows.seed, rows.step, flat.shape[1])
    drawn, log_p = draw_codes(logits.reshape(batch, flat.shape[1], -1).float(), rows.temperature, uniform)
    gumbel = -torch.log(-torch.log(choice))
    confidence = log_p + rows.noise_scale[:, None] * gumbel
    confidence = torch.where(masked, confidence, torch.inf)
    # Rank 0 is the least confident; a stable sort makes ties the same everywhere.
    rank = confidence.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    again = rank < rows.n_masked[:, None]
    result = torch.where(masked, torch.where(again, mask_code, drawn), flat)
    return result.view_as(codes)
