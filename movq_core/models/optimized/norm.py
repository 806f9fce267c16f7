"""Norms of channels-last activations: their moments, and what a modulated norm comes to in each cell.

A GroupNorm with a scale and a shift a cell is one multiply-add: the moments, the norm's own weights and the
modulation fold into it on the grid, where they are a hundredth of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.models.movq import PlainNorm, SpatialNorm

STRIP_BYTES = 1 << 20


class Moments(NamedTuple):
    """Mean and variance (B, N) of the channels of an activation, float32."""

    mean: Tensor
    var: Tensor


@dataclass
class Activation:
    """An activation x (B, H, W, N) with its moments; layers write the next one over it.

    So nobody holds the last one while the next one is computed; at full resolution each is tens of megabytes.
    """

    x: Tensor
    moments: Moments


class Affine(NamedTuple):
    """`x * scale + shift`, with one value a channel for each cell of a grid: (B, h, w, N) both."""

    scale: Tensor
    shift: Tensor

    def apply(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """x (B, h*r, w*s, N) -> the same shape; each cell's values spread over its pixels by broadcasting."""
        cells = self._cells(x)
        result = torch.addcmul(
            self.shift[:, :, None, :, None],
            cells,
            self.scale[:, :, None, :, None],
            out=None if out is None else self._cells(out),
        )
        return result.flatten(3, 4).flatten(1, 2) if out is None else out

    def image(self, index: int) -> Affine:
        """Image `index` of the batch, (1, h, w, N) both."""
        return Affine(self.scale[index : index + 1], self.shift[index : index + 1])

    def rows(self, first: int, last: int, height: int) -> Affine:
        """The same for rows `first` to `last` of an activation of `height` rows: (B, last - first, w, N)."""
        cell_height = height // self.scale.shape[1]
        cells = torch.arange(first, last, device=self.scale.device) // cell_height
        return Affine(self.scale[:, cells], self.shift[:, cells])

    def _cells(self, x: Tensor) -> Tensor:
        """(B, h*r, w*s, N) seen as (B, h, r, w, s, N)."""
        height, width = self.scale.shape[1:3]
        return x.unflatten(2, (width, -1)).unflatten(1, (height, -1))


def moments_of(x: Tensor) -> Moments:
    """Moments of x (B, H, W, N); on the CPU strip by strip: the second pass finds each in the cache."""
    if x.is_cuda:
        return _strip_moments(x)
    row_bytes = x[0, 0].numel() * x.element_size()
    strips = x.split(max(1, STRIP_BYTES // row_bytes), dim=1)
    return merge_moments([_strip_moments(strip) for strip in strips], [strip.shape[1] for strip in strips])


def merge_moments(parts: Sequence[Moments], counts: Sequence[int]) -> Moments:
    """Moments of the whole, of those of its parts and how much each counts; Chan et al. 1979."""
    if len(parts) == 1:
        return parts[0]
    weights = torch.tensor(counts, dtype=torch.float32, device=parts[0].mean.device).div_(sum(counts))
    means, variances = (torch.stack(part, dim=-1) for part in zip(*parts, strict=True))
    mean = means @ weights
    return Moments(mean, (variances + (means - mean[..., None]).square()) @ weights)


def _strip_moments(strip: Tensor) -> Moments:
    """Twice over the strip: the square of a mean is not taken from a mean of squares, which would cancel."""
    strip = strip.float()
    mean = strip.mean((1, 2))
    return Moments(mean, (strip - mean[:, None, None]).square_().mean((1, 2)))


class GridNorm:
    """A norm whose modulation, its own weight and bias folded in, is computed on the grid.

    `scale(z) * (w * n + b) + shift(z)`: two linear maps of z, in one product.
    """

    def __init__(self, norm: nn.Module) -> None:
        assert isinstance(norm, SpatialNorm | PlainNorm)
        self._groups, self._eps = norm.norm.num_groups, norm.norm.eps
        (scale, scale_bias), (shift, shift_bias) = _linear_parts(norm)
        self._weight = torch.cat([scale, shift])
        self._bias = torch.cat([scale_bias, shift_bias])

    def __call__(self, moments: Moments, z_q: Tensor | None) -> Affine:
        """What the norm does to an activation with these moments, over z_q (B, h, w, Z) or nothing."""
        both = self._bias[None, None, None]
        if z_q is not None and self._weight.shape[1]:
            both = F.linear(z_q, self._weight, self._bias)
        scale, shift = both.chunk(2, dim=-1)
        centre, inverse = self._of_groups(moments)
        scale = scale * inverse
        shift = torch.addcmul(shift.float(), scale, centre, value=-1.0)
        return Affine(scale.to(self._bias.dtype), shift.to(self._bias.dtype))

    def _of_groups(self, moments: Moments) -> tuple[Tensor, Tensor]:
        """Each channel's group's mean and inverse deviation, (B, 1, 1, N) both."""
        mean, var = (part.unflatten(1, (self._groups, -1)) for part in moments)
        group_mean = mean.mean(2, keepdim=True)
        group_var = var.mean(2, keepdim=True) + (mean - group_mean).square().mean(2, keepdim=True)
        inverse = torch.rsqrt(group_var + self._eps)
        centre, inverse = (part.expand_as(mean).flatten(1)[:, None, None] for part in (group_mean, inverse))
        return centre, inverse


def _linear_parts(norm: SpatialNorm | PlainNorm) -> list[tuple[Tensor, Tensor]]:
    """Weight (N, Z) and bias (N,) of a norm's scale, and of its shift; Z is 0 where nothing modulates."""
    if isinstance(norm, PlainNorm):
        nothing = norm.norm.weight.new_empty(norm.norm.num_channels, 0)
        return [(nothing, norm.norm.weight.detach()), (nothing, norm.norm.bias.detach())]
    scale, scale_bias = _pointwise_parts(norm.scale)
    shift, shift_bias = _pointwise_parts(norm.shift)
    if norm.norm.affine:
        weight, bias = norm.norm.weight.detach(), norm.norm.bias.detach()
        shift, shift_bias = shift + bias[:, None] * scale, shift_bias + bias * scale_bias
        scale, scale_bias = weight[:, None] * scale, weight * scale_bias
    return [(scale, scale_bias), (shift, shift_bias)]


def _pointwise_parts(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight (N, Z) and bias (N,) of a 1x1 convolution."""
    assert conv.bias is not None
    return conv.weight.detach().flatten(1), conv.bias.detach()
