"""3x3 convolutions with what stands around them: modulated norm and SiLU before, residual and moments after.

One operation, several forms of it; all take and give channels-last activations. Which is fastest depends on
the machine and on the size, so a `Convolution` has its forms timed once and keeps the winner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.models.optimized.choices import Choices
from movq_core.models.optimized.norm import Affine, Moments, merge_moments, moments_of
from movq_core.models.optimized.winograd import (
    TILE,
    WINDOW,
    compiled,
    transform_filter,
    transform_input,
    transform_output,
)

STRIP_BYTES = 4 << 20  # of transformed input: with its products it stays in two cores' caches


class Form(Protocol):
    """One way to compute a convolution."""

    def fits(self, x: Tensor) -> bool:
        """Whether this form can take an input of x's size."""
        ...

    def __call__(
        self, x: Tensor, affine: Affine | None, residual: Tensor | None
    ) -> tuple[Tensor, Moments]: ...


class Direct:
    """torch's own convolution; with `upsample` of the input enlarged by nearest neighbours."""

    def __init__(self, conv: nn.Conv2d, upsample: bool) -> None:
        self._weight = conv.weight.detach().to(memory_format=torch.channels_last)
        self._bias = _bias(conv)
        self._upsample = upsample

    def fits(self, x: Tensor) -> bool:  # noqa: ARG002
        return True

    def __call__(self, x: Tensor, affine: Affine | None, residual: Tensor | None) -> tuple[Tensor, Moments]:
        h = as_channels_first(activate(x, affine))
        if self._upsample:
            h = F.interpolate(h, scale_factor=2.0, mode="nearest")
        y = as_channels_last(F.conv2d(h, self._weight, self._bias, padding=1))
        y = y if residual is None else residual.add_(y)
        return y, moments_of(y)


class SubPixel:
    """Nearest upsampling by two and a 3x3 convolution, as four 2x2 convolutions of the small input.

    Each output pixel sees only two rows and two columns of the small input: 4 products where there were 9
    (Shi et al. 2016, arXiv 1609.07009).
    """

    def __init__(self, conv: nn.Conv2d, upsample: bool) -> None:
        assert upsample
        self._weight = _sub_pixel_weight(conv.weight.detach()).to(memory_format=torch.channels_last)
        self._bias = _bias(conv)

    def fits(self, x: Tensor) -> bool:  # noqa: ARG002
        return True

    def __call__(self, x: Tensor, affine: Affine | None, residual: Tensor | None) -> tuple[Tensor, Moments]:
        assert affine is None
        assert residual is None
        batch, height, width, _ = x.shape
        phases = as_channels_last(F.conv2d(as_channels_first(x), self._weight, padding=1))
        phases = phases.unflatten(3, (2, 2, -1))  # (B, H + 1, W + 1, 2, 2, M)
        y = x.new_empty(batch, height, 2, width, 2, phases.shape[-1])
        for i in range(2):
            for j in range(2):
                phase = phases[:, i : i + height, j : j + width, i, j]
                torch.add(phase, self._bias, out=y[:, :, i, :, j])
        y = y.flatten(3, 4).flatten(1, 2)
        return y, moments_of(y)


class Winograd:
    """F(4x4, 3x3), strip by strip; the norm before and the moments after find the strip in the cache."""

    def __init__(self, conv: nn.Conv2d, upsample: bool) -> None:
        self._filter = transform_filter(conv.weight.detach())
        self._bias = _bias(conv)
        self._upsample = upsample

    def fits(self, x: Tensor) -> bool:
        return all(self._scale * side % TILE == 0 for side in x.shape[1:3])

    @property
    def _scale(self) -> int:
        return 2 if self._upsample else 1

    def __call__(self, x: Tensor, affine: Affine | None, residual: Tensor | None) -> tuple[Tensor, Moments]:
        batch, height, width = len(x), self._scale * x.shape[1], self._scale * x.shape[2]
        y = x.new_empty(batch, height, width, self._filter.shape[2]) if residual is None else residual
        moments = []
        for i in range(batch):
            here = None if affine is None else affine.image(i)
            moments.append(self._image(x[i], here, y[i], add=residual is not None))
        return y, Moments(*(torch.cat(part) for part in zip(*moments, strict=True)))

    def _image(self, x: Tensor, affine: Affine | None, y: Tensor, add: bool) -> Moments:
        """One image x (H, W, N) into y, added to what is there if `add`; the moments of y, (1, M)."""
        height, width = y.shape[:2]
        rows = self._strip_rows(height, width, x)
        strip = x.new_zeros(rows + 2, width + 2, x.shape[2])  # the halo's zeros are the padding
        parts, counts = [], []
        for top in range(0, height, rows):
            self._fill(strip, x, affine, top, height)
            products = torch.bmm(compiled(transform_input)(strip), self._filter)
            pixels = self._pixels(compiled(transform_output)(products, self._bias), width)
            target = y[top : top + rows]
            pixels = pixels[: len(target) // TILE]  # the last strip may reach beyond the image
            blocks = target.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE))
            blocks.add_(pixels) if add else blocks.copy_(pixels)
            parts.append(moments_of(target[None]))
            counts.append(len(target))
        return merge_moments(parts, counts)

    @staticmethod
    def _strip_rows(height: int, width: int, x: Tensor) -> int:
        """Output rows a strip: equal strips of whole tiles, of at most about STRIP_BYTES.

        All strips have one size, and hardly ever a single row of tiles, which would be built anew.
        """
        tile_rows = height // TILE
        row_bytes = WINDOW**2 * width // TILE * x.shape[2] * x.element_size()
        strips = math.ceil(tile_rows / max(2, STRIP_BYTES // row_bytes))
        return TILE * math.ceil(tile_rows / strips)

    @staticmethod
    def _pixels(tiles: Tensor, width: int) -> Tensor:
        """tiles (16, t*u, M) seen as pixels (t, 4, u, 4, M)."""
        across = width // TILE
        return tiles.unflatten(1, (-1, across)).unflatten(0, (TILE, TILE)).permute(2, 0, 3, 1, 4)

    def _fill(self, strip: Tensor, x: Tensor, affine: Affine | None, top: int, height: int) -> None:
        """Rows `top` - 1 and on of the activated input into the strip; zeros outside the image."""
        first, last = max(0, top - 1), min(height, top - 1 + len(strip))
        begin, end = first - top + 1, last - top + 1
        strip[:begin] = 0.0
        strip[end:] = 0.0
        inside = strip[begin:end, 1:-1]
        if self._upsample:
            rows = x[torch.arange(first, last, device=x.device) // 2]
            inside.unflatten(1, (-1, 2)).copy_(rows[:, :, None])
        elif affine is None:
            inside.copy_(x[first:last])
        else:
            affine.rows(first, last, height).apply(x[None, first:last], out=inside[None])
            F.silu(inside, inplace=True)


FORMS: Mapping[str, Callable[[nn.Conv2d, bool], Form]] = {
    "direct": Direct,
    "sub-pixel": SubPixel,
    "winograd": Winograd,
}


class Convolution:
    """A 3x3 convolution in the form that was fastest here when it was first called."""

    def __init__(self, conv: nn.Conv2d, upsample: bool, forms: Sequence[str], choices: Choices) -> None:
        self._conv = conv
        self._upsample = upsample
        self._allowed = forms
        self._choices = choices
        self._chosen: Form | None = None

    def __call__(
        self, x: Tensor, affine: Affine | None = None, residual: Tensor | None = None
    ) -> tuple[Tensor, Moments]:
        """x (B, H, W, N), activated by `affine` and SiLU if given; the result is added into `residual`."""
        if self._chosen is None:
            self._chosen = self._fastest(x, affine, residual)
        form = self._chosen if self._chosen.fits(x) else Direct(self._conv, self._upsample)
        return form(x, affine, residual)

    def _fastest(self, x: Tensor, affine: Affine | None, residual: Tensor | None) -> Form:
        forms = {name: FORMS[name](self._conv, self._upsample) for name in self._allowed}
        fitting = [name for name, form in forms.items() if form.fits(x)]
        target = None if residual is None else residual.clone()
        _, height, width, channels = x.shape
        operation = (
            f"{'upsample, ' * self._upsample}{channels} to {self._conv.out_channels} at {height}x{width}"
        )
        return forms[self._choices.pick(operation, fitting, lambda name: forms[name](x, affine, target))]


def _bias(conv: nn.Conv2d) -> Tensor:
    """The bias (M,) as a plain tensor: torch's compiler builds anew for each size of a Parameter."""
    assert conv.bias is not None
    return conv.bias.detach()


def _sub_pixel_weight(weight: Tensor) -> Tensor:
    """weight (M, N, 3, 3) -> (4*M, N, 2, 2): output row 2*i + p sees the rows i - 1 + p and i + p."""
    rows = weight.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])
    return torch.einsum("pia,qjb,mnab->pqmnij", rows, rows, weight).flatten(0, 2)


def activate(x: Tensor, affine: Affine | None) -> Tensor:
    """SiLU of the modulated norm of x; x itself where there is none; on a GPU one kernel."""
    if affine is None:
        return x
    return compiled(_activate)(x, affine) if x.is_cuda else _activate(x, affine)


def _activate(x: Tensor, affine: Affine) -> Tensor:
    return F.silu(affine.apply(x), inplace=True)


def as_channels_first(x: Tensor) -> Tensor:
    """(B, H, W, N) seen as (B, N, H, W); no copy."""
    return x.permute(0, 3, 1, 2)


def as_channels_last(x: Tensor) -> Tensor:
    """(B, N, H, W) as (B, H, W, N), contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()
