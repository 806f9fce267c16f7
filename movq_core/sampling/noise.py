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


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four words in [0, 2**32) as int64, of broadcastable counters and keys in the same range.

    A product's low 64 bits are right although int64 overflows, and the mask takes what its sign shifts in.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        a, b = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = ((b >> 32) ^ c1 ^ k0) & _LOW, b & _LOW
        c2, c3 = ((a >> 32) ^ c3 ^ k1) & _LOW, a & _LOW
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1, c2, c3


def uniforms(seeds: Tensor, steps: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    """Two independent uniforms an entry, in (0, 1): (B, entries) float32 each.

    seeds (B,) int64 in [0, 2**63), steps (B,) int64.
    """
    seed = seeds[:, None]
    entry = torch.arange(entries, device=seeds.device)[None, :]
    zero = torch.zeros_like(entry)
    words = philox((entry, steps[:, None], zero, zero), (seed & _LOW, (seed >> 32) & _LOW))
    return to_uniform(words[0]), to_uniform(words[1])


def to_uniform(word: Tensor) -> Tensor:
    """A word's upper 23 bits as the middle of one of 2**23 equal parts of (0, 1), exactly.

    float32 has no room for a bit more: it would round the largest to 1.
    """
    return (word >> 9).float().add(0.5).mul(2.0**-23)
