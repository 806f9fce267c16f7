"""The Inception network of FID, IS, and precision and recall: TensorFlow's of 2015-12-05.

Szegedy et al. 2016 as TensorFlow trained it, with 1008 logits. It is not torchvision's network: its average
pools leave out the border, and its last block pools by maximum. The names are those of the tensors in
pt_inception-2015-12-05-6726825d.pth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299  # pixels
FEATURES = 2048
LOGITS = 1008

Pool = Callable[[Tensor], Tensor]
_average: Pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_maximum: Pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
_halved: Pool = partial(F.max_pool2d, kernel_size=3, stride=2)


class Layer(NamedTuple):
    """A named convolution to `width` channels; with stride 1 it keeps height and width."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


class Fork(NamedTuple):
    """Two layers on the same input, side by side."""

    first: Layer
    second: Layer


Branch = Sequence[Layer | Fork | Pool]


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(
        self, before: int, width: int, kernel: tuple[int, int], stride: int = 1, pad: bool = True
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(before, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches on the same input; `width` channels of all of them come out, side by side."""

    def __init__(self, before: int, *branches: Branch) -> None:
        super().__init__()
        self.branches = branches
        self.width = sum(self._build(branch, before) for branch in branches)

    def _build(self, branch: Branch, width: int) -> int:
        """Add the branch's layers; its channels at the end."""
        for part in branch:
            layers = part if isinstance(part, Fork) else (part,) if isinstance(part, Layer) else ()
            for layer in layers:
                made = Convolution(width, layer.width, layer.kernel, layer.stride, pad=layer.stride == 1)
                self.add_module(layer.name, made)
            width = sum(layer.width for layer in layers) or width
        return width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._run(branch, x) for branch in self.branches], dim=1)

    def _run(self, branch: Branch, x: Tensor) -> Tensor:
        for part in branch:
            if isinstance(part, Fork):
                x = torch.cat([self.get_submodule(layer.name)(x) for layer in part], dim=1)
            else:
                x = self.get_submodule(part.name)(x) if isinstance(part, Layer) else part(x)
        return x


def _block_a(before: int, pooled: int) -> Mixed:
    return Mixed(
        before,
        [Layer("branch1x1", 64)],
        [Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))],
        [
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3)),
        ],
        [_average, Layer("branch_pool", pooled)],
    )


def _block_b(before: int) -> Mixed:
    return Mixed(
        before,
        [Layer("branch3x3", 384, (3, 3), 2)],
        [
            Layer("branch3x3dbl_1", 64),
            Layer("branch3x3dbl_2", 96, (3, 3)),
            Layer("branch3x3dbl_3", 96, (3, 3), 2),
        ],
        [_halved],
    )


def _block_c(before: int, width: int) -> Mixed:
    return Mixed(
        before,
        [Layer("branch1x1", 192)],
        [
            Layer("branch7x7_1", width),
            Layer("branch7x7_2", width, (1, 7)),
            Layer("branch7x7_3", 192, (7, 1)),
        ],
        [
            Layer("branch7x7dbl_1", width),
            Layer("branch7x7dbl_2", width, (7, 1)),
            Layer("branch7x7dbl_3", width, (1, 7)),
            Layer("branch7x7dbl_4", width, (7, 1)),
            Layer("branch7x7dbl_5", 192, (1, 7)),
        ],
        [_average, Layer("branch_pool", 192)],
    )


def _block_d(before: int) -> Mixed:
    return Mixed(
        before,
        [Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)],
        [
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, (1, 7)),
            Layer("branch7x7x3_3", 192, (7, 1)),
            Layer("branch7x7x3_4", 192, (3, 3), 2),
        ],
        [_halved],
    )


def _block_e(before: int, pool: Pool) -> Mixed:
    return Mixed(
        before,
        [Layer("branch1x1", 320)],
        [
            Layer("branch3x3_1", 384),
            Fork(Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
        ],
        [
            Layer("branch3x3dbl_1", 448),
            Layer("branch3x3dbl_2", 384, (3, 3)),
            Fork(Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
        ],
        [pool, Layer("branch_pool", 192)],
    )


class FIDInception(nn.Module):
    """Pixels (B, 3, h, w) in [0, 255] to pooled features (B, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), 2, pad=False)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3), pad=False)
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3), pad=False)
        self.Mixed_5b = _block_a(192, 32)
        self.Mixed_5c = _block_a(self.Mixed_5b.width, 64)
        self.Mixed_5d = _block_a(self.Mixed_5c.width, 64)
        self.Mixed_6a = _block_b(self.Mixed_5d.width)
        self.Mixed_6b = _block_c(self.Mixed_6a.width, 128)
        self.Mixed_6c = _block_c(768, 160)
        self.Mixed_6d = _block_c(768, 160)
        self.Mixed_6e = _block_c(768, 192)
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(self.Mixed_7a.width, _average)
        self.Mixed_7c = _block_e(FEATURES, _maximum)
        self.fc = nn.Linear(FEATURES, LOGITS)

    def forward(self, pixels: Tensor) -> Tensor:
        # As pytorch-fid: bilinear to 299 without antialiasing, then [-1, 1].
        x = F.interpolate(pixels / 255.0, (SIDE, SIDE), mode="bilinear", align_corners=False) * 2.0 - 1.0
        x = _halved(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halved(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x))).mean((2, 3))

    def logits(self, features: Tensor) -> Tensor:
        """Features (N, 2048) to logits (N, 1008) without the bias, as the Inception Score's authors do."""
        return features @ self.fc.weight.t()
