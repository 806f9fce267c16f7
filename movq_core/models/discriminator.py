"""PatchDiscriminator: VQGAN's critic of overlapping patches (Isola et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Pixels (B, 3, h, w) -> one logit a patch (B, 1, h', w'), real above zero.

    `layers` stride-2 convs; each logit sees a patch of about 70 pixels with three of them.
    GroupNorm instead of BatchNorm: no statistics to share between ranks.
    """

    def __init__(self, base_channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [base_channels * min(2**i, 8) for i in range(layers + 1)]
        stack: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for index in range(1, layers + 1):
            stride = 2 if index < layers else 1
            stack += [
                nn.Conv2d(widths[index - 1], widths[index], 4, stride=stride, padding=1, bias=False),
                nn.GroupNorm(min(32, widths[index]), widths[index]),
                nn.LeakyReLU(0.2),
            ]
        self.stack = nn.Sequential(*stack, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """DCGAN's small normal weights, as VQGAN's critic starts."""
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.stack(pixels)
