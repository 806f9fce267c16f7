"""Halton's order: codes settle spread evenly over the image, whatever the prior says of them.

Besnier et al. 2025, "Halton Scheduler for Masked Generative Image Transformer": positions that are near one
another depend on one another, and should not be drawn in one step. The same holds for the channels of one
position, which are new here.
"""

from __future__ import annotations

from functools import cache
from itertools import count

import torch
from torch import Tensor


def radical_inverse(index: int, base: int, cells: int) -> int:
    """Which of `cells` equal parts of [0, 1) holds `index`, its digits in `base` mirrored at the point.

    In integers: no rounding could put it elsewhere on another machine.
    """
    mirrored, scale = 0, 1
    while index:
        index, digit = divmod(index, base)
        mirrored, scale = mirrored * base + digit, scale * base
    return mirrored * cells // scale


def halton_positions(height: int, width: int) -> list[int]:
    """Every position (row * width + column), in the order in which the sequence of bases 2 and 3 meets it."""
    met: dict[int, None] = {}
    for index in count(1):
        met.setdefault(radical_inverse(index, 2, height) * width + radical_inverse(index, 3, width))
        if len(met) == height * width:
            break
    return list(met)


@cache  # for good: a recorded graph reads it
def halton_ranks(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Place (C*H*W,) float32 of each entry in the order in which they settle; 0 is the first.

    The channels take turns, and channel c is c/C of the sequence ahead: a position's channels settle in one
    step only where the step settles as many codes as there are positions.
    """
    positions = halton_positions(height, width)
    size = len(positions)
    ranks = torch.empty(channels, size)
    for channel in range(channels):
        ahead = channel * size // channels
        own = torch.tensor(positions[ahead:] + positions[:ahead])
        ranks[channel, own] = torch.arange(size, dtype=torch.float32) * channels + channel
    return ranks.flatten().to(device)
