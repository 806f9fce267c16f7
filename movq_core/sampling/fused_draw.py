"""A step's draw as one Triton kernel, which reads the logits once.

Equal to `step.draw_masked` but for rounding: exponentials, logarithms and sums of float32 are a last bit
apart, and a code changes where its uniform falls between the two CDFs: one in some 40,000 of 1024 codes,
one in 5,000 of 4096.
"""

# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"
# Triton comes with torch's CUDA builds alone, and `step.fastest_draw` imports this module where it is.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from movq_core.sampling.step import StepRows


@triton.jit
def _to_uniform(word: tl.tensor) -> tl.tensor:
    """`noise.to_uniform`: exact, hence equal to the bit."""
    return ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07  # 2**-23


@triton.jit
def _draw_code(logits: tl.tensor, uniform: tl.tensor, padded: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """A code of one entry's logits (padded,) by inverse CDF, and its log-probability: `step.draw_codes`."""
    code = tl.arange(0, padded)
    logits -= tl.max(logits, 0)
    weight = tl.exp(logits)
    cdf = tl.cumsum(weight, 0)
    total = tl.max(cdf, 0)
    # A parallel scan's sums may fall by a last bit; yet no code of weight 0 is ever drawn.
    reached = (cdf >= uniform * total) & (weight > 0)
    first = tl.min(tl.where(reached, code, padded), 0)
    last = tl.max(tl.where(weight > 0, code, 0), 0)
    drawn = tl.minimum(first, last)
    return drawn, tl.sum(tl.where(code == drawn, logits, 0.0), 0) - tl.log(total)


@triton.jit
def _least_of(logits: tl.tensor, top_k: tl.tensor) -> tl.tensor:
    """The `top_k`-th largest of `logits`, exactly, and no sort: bit by bit the largest that as many reach.

    Floats are in the order of these words: negative ones with all bits turned, the others with the sign's.
    """
    bits = logits.to(tl.int32, bitcast=True)
    word = (bits ^ ((bits >> 31) | -0x80000000)).to(tl.uint32, bitcast=True)
    least = tl.zeros((), tl.uint32)
    for place in range(32):
        higher = least | (tl.full((), 0x80000000, tl.uint32) >> place)
        least = tl.where(tl.sum((word >= higher).to(tl.int32), 0) >= top_k, higher, least)
    bits = tl.where(least >> 31 == 1, least ^ 0x80000000, least ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _draw_entry(  # noqa: PLR0917 - a kernel's arguments have no names at its launch
    logits: tl.tensor,
    codes: tl.tensor,
    seeds: tl.tensor,
    steps: tl.tensor,
    temperatures: tl.tensor,
    noise_scales: tl.tensor,
    top_ks: tl.tensor,
    drawn: tl.tensor,
    confidences: tl.tensor,
    mask_code: tl.tensor,
    entries: tl.tensor,
    size: tl.constexpr,
    padded: tl.constexpr,
) -> None:
    """A program an entry, of B * `entries`; its `size` logits fill a block of `padded`, a power of two."""
    place = tl.program_id(0)
    row = place // entries
    known = tl.load(codes + place)
    if known != mask_code:
        tl.store(drawn + place, known)
        tl.store(confidences + place, float("inf"))
    else:
        step = tl.load(steps + row).to(tl.uint32)
        word, choice_word, _, _ = tl.philox(tl.load(seeds + row), place % entries, step, 0, 0)
        code = tl.arange(0, padded)
        # int64: a large batch holds more than 2**31 logits.
        its = tl.load(logits + place.to(tl.int64) * size + code, mask=code < size, other=-float("inf"))
        its = its.to(tl.float32)
        top_k = tl.load(top_ks + row)
        if top_k < size:
            its = tl.where(its < _least_of(its, top_k), -float("inf"), its)
        heated = tl.div_rn(its, tl.load(temperatures + row))
        new, log_p = _draw_code(heated, _to_uniform(word), padded)
        gumbel = -tl.log(-tl.log(_to_uniform(choice_word)))
        tl.store(drawn + place, new.to(tl.int64))
        tl.store(confidences + place, log_p + tl.load(noise_scales + row) * gumbel)


def fused_draw(logits: Tensor, codes: Tensor, mask_code: int, rows: StepRows) -> tuple[Tensor, Tensor]:
    """`step.draw_masked` in one launch: logits (B, N, K) of any float type, codes (B, N)."""
    size = logits.shape[-1]
    padded = triton.next_power_of_2(size)
    drawn = torch.empty(codes.shape, dtype=torch.int64, device=codes.device)
    confidence = torch.empty(codes.shape, dtype=torch.float32, device=codes.device)
    read = (logits, codes, rows.seed, rows.step, rows.temperature, rows.noise_scale, rows.top_k)
    _draw_entry[(codes.numel(),)](
        *(tensor.contiguous() for tensor in read),  # the kernel knows no strides
        drawn,
        confidence,
        mask_code,
        codes.shape[1],
        size,
        padded,
        num_warps=min(max(padded // 256, 1), 16),
        enable_fp_fusion=False,  # a rounding fewer is a rounding that torch has
    )
    return drawn, confidence
