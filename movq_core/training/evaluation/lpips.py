"""LPIPS v0.1: the distance of two images in the features of VGG16 or AlexNet (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Where the linear heads look: after these modules of torchvision's `features`, all ReLUs.
VGG16_TAPS = (3, 8, 15, 22, 29)
ALEXNET_TAPS = (1, 4, 7, 9, 11)
_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_features() -> nn.Sequential:
    """Torchvision's `vgg16().features`, module by module, without the last pool."""
    modules: list[nn.Module] = []
    before = 3
    for stage in _VGG16_STAGES:
        for width in stage:
            modules += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        modules.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*modules[:-1])


def alexnet_features() -> nn.Sequential:
    """Torchvision's `alexnet().features`, module by module, without the last pool."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )


class LPIPS(nn.Module):
    """Distance of each pair: a, b (B, 3, h, w) in [-1, 1] -> (B,); can be differentiated in both.

    `name` is the backbone's; `features` are tapped behind the modules `taps`.
    `heads` weigh the squared differences of the normalised features of each tap, channel by channel.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, name: str, features: nn.Sequential, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.name = name
        self.features = features
        self.taps = taps
        widths = [_width_at(features, tap) for tap in taps]
        self.heads = nn.ParameterList(nn.Parameter(torch.ones(1, width, 1, 1)) for width in widths)
        # ImageNet's mean and deviation, seen from [-1, 1]; the authors' rounding.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        distances = [
            F.conv2d((left - right).square(), head).mean((1, 2, 3))
            for left, right, head in zip(self._tapped(a), self._tapped(b), self.heads, strict=True)
        ]
        return torch.stack(distances).sum(0)

    def _tapped(self, pixels: Tensor) -> Iterator[Tensor]:
        """Unit vectors at each position, tap by tap."""
        x = (pixels - self.shift) / self.scale
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self.taps:
                # Unlike x / (|x| + eps), it has a gradient where all features are zero.
                yield F.normalize(x, dim=1, eps=1e-10)


def _width_at(features: nn.Sequential, tap: int) -> int:
    convolution = features[tap - 1]
    assert isinstance(convolution, nn.Conv2d)
    return convolution.out_channels
