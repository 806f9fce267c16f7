"""Counter-based noise: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

A number depends on (seed, step, entry) alone: never on the batch, on a neighbour or on what was drawn
before. That is why a request gives the same image alone, in a crowd and after a restart.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def _multiply(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a * multiplier, for a in [0, 2**32) held in int64.

    The product's low 64 bits are right although int64 overflows; the shift's sign is masked away.
    """
    product = a * multiplier
    return (product >> 32) & _LOW, product & _LOW


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four words in [0, 2**32) as int64, of broadcastable counters and keys in the same range."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def uniforms(seeds: Tensor, steps: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """Two independent uniforms an entry, in (0, 1): (B, entries) float32 each.

    seeds (B,) int64 in [0, 2**63), steps (B,) int64. 24 bits, centred, so that neither 0 nor 1 is drawn.
    """
    seed = seeds[:, None]
    entry = torch.arange(entries, device=seeds.device)[None, :]
    zero = torch.zeros_like(entry)
    words = philox((entry, steps[:, None], zero, zero), (seed & _LOW, (seed >> 32) & _LOW))
    first, second = ((word >> 8).float().add(0.5).mul(2.0**-24) for word in words[:2])
    return first, second
