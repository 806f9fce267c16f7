"""Repeated artefacts: do neighbours of equal codes decode to equal pixels?

The paper's reason for spatial norm (Zheng et al. 2022, section 1): a plain VQGAN decoder draws the same patch
wherever the same codes stand, and neighbouring equal codes show as a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Repetition:
    """Neighbouring cells with equal codes whose original pixels differ: what became of the difference.

    `identical`: the share whose decoded 8-bit pixels are all equal. `kept`: the mean absolute difference
    between the two decoded patches, over that between the original ones. nan when there are no `pairs`.
    """

    pairs: int
    identical: float
    kept: float


def measure_repetition(codes: Tensor, decoded: Tensor, original: Tensor) -> Repetition:
    """codes (N, C, H, W); decoded and original (N, 3, H*f, W*f), 8-bit values as float."""
    factor = decoded.shape[-1] // codes.shape[-1]
    ours, real = _patches(decoded, factor), _patches(original, factor)
    found = [
        torch.stack([_mean_difference(ours, axis)[equal], _mean_difference(real, axis)[equal]])
        for axis in (1, 2)
        if (equal := _equal_neighbours(codes, axis)).any()
    ]
    differences = torch.cat(found, dim=1) if found else torch.zeros(2, 0)
    decoded_by, original_by = differences[:, differences[1] > 0]  # a flat original repeats for a good reason
    identical = (decoded_by == 0).float().mean()
    return Repetition(len(decoded_by), float(identical), float(decoded_by.mean() / original_by.mean()))


def _patches(images: Tensor, factor: int) -> Tensor:
    """(N, 3, H*f, W*f) -> (N, H, W, 3*f*f)."""
    return images.unfold(2, factor, factor).unfold(3, factor, factor).permute(0, 2, 3, 1, 4, 5).flatten(3)


def _equal_neighbours(codes: Tensor, axis: int) -> Tensor:
    """Where all codes of a cell equal those of the next one along `axis` (1 down, 2 right) of (N, H, W)."""
    return (codes.movedim(1, -1).diff(dim=axis) == 0).all(-1)


def _mean_difference(patches: Tensor, axis: int) -> Tensor:
    """Mean absolute difference of a patch and the next one along `axis`; exactly 0 where they are equal."""
    return patches.diff(dim=axis).abs().mean(-1)
