"""One step of iterative parallel decoding, pure and per row.

After google-research/maskgit `libml/parallel_decode.py`, with everything that is one number there
(step, steps, temperature, seed) one number a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from movq_core.sampling.halton import halton_ranks
from movq_core.sampling.noise import uniforms

ALL_CODES = 2**31 - 1  # no codebook is larger
_HAS_TRITON = find_spec("triton") is not None
# A megabyte of float32 a thread: what is drawn at once on a CPU, and stays in the caches meanwhile.
_CACHED_LOGITS = 2**18


@dataclass(frozen=True)
class StepRows:
    """What one step needs to know about each of its B rows; every field (B,).

    `n_masked`: entries that stay masked after this step (0 at the last).
    `noise_scale`: `choice_temperature * (1 - ratio)` of this step.
    `top_k`: how many of an entry's codes may be drawn; `ALL_CODES` for all.
    `halton`: whether entries settle in Halton's order instead of by confidence.
    """

    seed: Tensor  # int64
    step: Tensor  # int64
    n_masked: Tensor  # int64
    temperature: Tensor  # float32
    noise_scale: Tensor  # float32
    top_k: Tensor  # int64
    halton: Tensor  # bool


# What a draw has made of its logits: a code for every entry, and the confidence in it; (B, N) both.
Draw = Callable[[Tensor, Tensor, int, StepRows], tuple[Tensor, Tensor]]


def unmask_step(
    logits: Tensor, codes: Tensor, mask_code: int, rows: StepRows, draw: Draw | None = None
) -> Tensor:
    """Draw every masked entry, keep the confident, mask the other `n_masked` again.

    In a row of Halton's order those are kept whose turn it is, however confident.

    logits (B, C, H, W, K); codes (B, C, H, W) with `mask_code` where masked -> codes (B, C, H, W).
    Known codes never change. Sampling is in float32 whatever the logits are. `draw`: how codes are drawn;
    None is the fastest way on the logits' device.
    """
    flat = codes.flatten(1)  # (B, N)
    draw = draw or fastest_draw(logits.device)
    drawn, confidence = draw(logits.flatten(1, -2), flat, mask_code, rows)
    masked = flat == mask_code
    ranks = halton_ranks(*codes.shape[1:], codes.device)
    confidence = torch.where(rows.halton[:, None] & masked, -ranks, confidence)
    # The least confident first; a stable sort makes ties the same everywhere.
    order = confidence.argsort(dim=1, stable=True)
    first = torch.arange(flat.shape[1], device=flat.device) < rows.n_masked[:, None]
    again = torch.empty_like(first).scatter_(1, order, first) & masked
    return torch.where(again, mask_code, drawn).view_as(codes)


def fastest_draw(device: torch.device) -> Draw:
    """The fused kernel on CUDA, where Triton is at hand; else torch's operations."""
    if device.type == "cuda" and _HAS_TRITON:
        from movq_core.sampling.fused_draw import fused_draw  # noqa: PLC0415 - Triton comes with CUDA builds

        return fused_draw
    return draw_masked


def draw_masked(logits: Tensor, codes: Tensor, mask_code: int, rows: StepRows) -> tuple[Tensor, Tensor]:
    """A code for each masked entry, with a noisy log-probability; the known keep theirs, at infinity.

    logits (B, N, K), codes (B, N) with `mask_code` where masked -> codes, confidence (B, N) float32.
    """
    masked = codes == mask_code
    uniform, choice = uniforms(rows.seed, rows.step, codes.shape[1])
    if logits.device.type == "cpu":
        drawn, log_p = _draw_only(masked, logits, rows, uniform)
    else:  # where the host must not wait to know how many are masked, or whose codes are few
        likeliest = only_likeliest(logits.float(), rows.top_k[:, None].expand_as(codes))
        drawn, log_p = draw_codes(likeliest, rows.temperature, uniform)
    gumbel = -torch.log(-torch.log(choice))
    confidence = log_p + rows.noise_scale[:, None] * gumbel
    return torch.where(masked, drawn, codes), torch.where(masked, confidence, torch.inf)


def _draw_only(wanted: Tensor, logits: Tensor, rows: StepRows, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """`draw_codes` of the `wanted` (B, N) entries alone, and zeros; some at a time, for a core's cache."""
    batch, entries, size = logits.shape
    codes, log_p = torch.zeros(batch * entries, dtype=torch.int64), torch.zeros(batch * entries)
    logits, uniform = logits.flatten(0, 1), uniform.flatten()
    heat, top_k = rows.temperature.repeat_interleave(entries), rows.top_k.repeat_interleave(entries)
    any_few = bool((rows.top_k < size).any())
    at_once = max(1, _CACHED_LOGITS * torch.get_num_threads() // size)
    for some in wanted.flatten().nonzero().squeeze(1).split(at_once):
        picked = logits.index_select(0, some).float()
        if any_few:  # and who asks for all pays nothing
            few = (top_k[some] < size).nonzero().squeeze(1)
            picked[few] = only_likeliest(picked[few], top_k[some[few]])
        drawn, its_log_p = draw_codes(picked[:, None], heat[some], uniform[some][:, None])
        codes[some], log_p[some] = drawn.squeeze(1), its_log_p.squeeze(1)
    return codes.view(batch, entries), log_p.view(batch, entries)


def only_likeliest(logits: Tensor, top_k: Tensor) -> Tensor:
    """Logits (..., K) float32 with -inf for all but the `top_k` (...) largest of each entry.

    Codes as likely as the last of them stay, too: which of them did would be chance.
    """
    if logits.device.type == "cpu":  # NumPy's sort takes a 25th of torch's time where it has AVX-512
        ascending = torch.from_numpy(np.sort(logits.numpy(), axis=-1))
    else:
        ascending = logits.sort(dim=-1).values
    least = ascending.gather(-1, (logits.shape[-1] - top_k).clamp(min=0)[..., None])
    return torch.where(logits < least, -torch.inf, logits)


def draw_codes(logits: Tensor, temperature: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A code an entry by inverse CDF, and its log-probability.

    logits (B, N, K) float32, temperature (B,), uniform (B, N) in (0, 1) -> codes and log_p (B, N).
    """
    p = torch.softmax(logits / temperature[:, None, None], dim=-1)
    cdf = p.cumsum(-1)
    # The sum of K rounded probabilities is not exactly 1: aim at the sum that is there.
    target = uniform * cdf[..., -1]
    codes = torch.searchsorted(cdf, target[..., None]).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    return codes, p.gather(-1, codes[..., None]).squeeze(-1).log()
