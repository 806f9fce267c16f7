"""MoVQ: a VQGAN-like tokenizer whose decoder is modulated by the quantised vectors.

Zheng, Vuong, Cai, Phung, "MoVQ: Modulating Quantized Vectors for High-Fidelity Image Generation",
NeurIPS 2022 (arXiv 2209.09002). Backbone: Esser et al., VQGAN.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.config import MoVQConfig
from movq_core.models.quantizer import MultichannelQuantizer, Quantized

if TYPE_CHECKING:
    from movq_core.models.optimized.movq import OptimizedMoVQ

NormFactory = Callable[[int], nn.Module]


class SpatialNorm(nn.Module):
    """`scale(z_q) * norm(x) + shift(z_q)`: GroupNorm with a scale and a shift for each grid cell.

    A 1x1 conv commutes with nearest upsampling, so both convs run on the grid and only their
    result is expanded, by broadcasting over the pixels of a cell instead of by a copy.
    """

    def __init__(self, channels: int, z_channels: int, groups: int, affine: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6, affine=affine)
        self.scale = nn.Conv2d(z_channels, channels, 1)
        self.shift = nn.Conv2d(z_channels, channels, 1)
        # Starts as a plain norm: the modulation grows from where VQGAN stands.
        nn.init.ones_(self.scale.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.shift.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, z_q: Tensor) -> Tensor:
        """x (B, N, H*r, W*r), z_q (B, Z, H, W) -> (B, N, H*r, W*r)."""
        height, width = z_q.shape[-2:]
        rows, columns = x.shape[-2] // height, x.shape[-1] // width
        cells = self.norm(x).unflatten(3, (width, columns)).unflatten(2, (height, rows))
        scale = self.scale(z_q)[:, :, :, None, :, None]
        shift = self.shift(z_q)[:, :, :, None, :, None]
        return torch.addcmul(shift, cells, scale).flatten(4, 5).flatten(2, 3)


class PlainNorm(nn.Module):
    """GroupNorm with SpatialNorm's signature: for the encoder, and for the plain VQGAN decoder."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)

    def forward(self, x: Tensor, _z_q: Tensor | None) -> Tensor:
        return self.norm(x)


class ResidualBlock(nn.Module):
    """norm, SiLU, 3x3 conv, twice; a 1x1 conv on the shortcut where the width changes."""

    def __init__(self, channels_in: int, channels_out: int, norm: NormFactory) -> None:
        super().__init__()
        self.norm1 = norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x, z_q)))
        h = self.conv2(F.silu(self.norm2(h, z_q)))
        return self.shortcut(x) + h


class SpatialAttention(nn.Module):
    """One head of self-attention over all positions, as in VQGAN."""

    def __init__(self, channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        qkv = self.qkv(self.norm(x, z_q)).flatten(2).transpose(1, 2)  # (B, H*W, 3N)
        q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)  # (B, 1, H*W, N) each
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention where the config says so."""

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, attend: bool, norm: NormFactory
    ) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * (blocks - 1)
        self.blocks = nn.ModuleList(ResidualBlock(width, channels_out, norm) for width in widths)
        self.attentions = nn.ModuleList(
            SpatialAttention(channels_out, norm) for _ in range(blocks if attend else 0)
        )

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x, z_q)
            if self.attentions:
                x = self.attentions[index](x, z_q)
        return x


class Middle(nn.Module):
    """Block, attention, block at the grid's resolution."""

    def __init__(self, channels: int, attend: bool, norm: NormFactory) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, norm)
        self.attention = SpatialAttention(channels, norm) if attend else None
        self.block2 = ResidualBlock(channels, channels, norm)

    def forward(self, x: Tensor, z_q: Tensor | None = None) -> Tensor:
        x = self.block1(x, z_q)
        if self.attention is not None:
            x = self.attention(x, z_q)
        return self.block2(x, z_q)


class Downsample(nn.Module):
    """Stride-2 conv, padded right and bottom by one, as in VQGAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest upsampling by two, then a 3x3 conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Encoder(nn.Module):
    """Pixels (B, 3, h, w) in [-1, 1] to features (B, z_channels, h/f, w/f)."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            return PlainNorm(channels, config.norm_groups)

        widths = [config.base_channels * m for m in config.channel_multipliers]
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(3 * config.patch_size**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(before, width, config.encoder_blocks, index in config.attention_levels, norm)
            for index, (before, width) in enumerate(zip(widths[:1] + widths, widths, strict=False))
        )
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = Middle(widths[-1], config.middle_attention, norm)
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.z_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv_in(F.pixel_unshuffle(pixels, self.patch_size))
        for index, level in enumerate(self.levels):
            x = level(x)
            if index < len(self.downsamples):
                x = self.downsamples[index](x)
        return self.conv_out(F.silu(self.norm_out(self.middle(x), None)))


class Decoder(nn.Module):
    """Quantised vectors (B, z_channels, H, W) to pixels (B, 3, H*f, W*f), modulated at every norm.

    `x` enters through `conv_in`; `z_q` itself, before `post_quant_conv`, is the modulator.
    """

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()

        def norm(channels: int) -> nn.Module:
            if config.decoder_norm == "group":
                return PlainNorm(channels, config.norm_groups)
            return SpatialNorm(channels, config.z_channels, config.norm_groups, config.norm_affine)

        widths = [config.base_channels * m for m in config.channel_multipliers][::-1]
        coarsest = len(widths) - 1
        self.patch_size = config.patch_size
        self.conv_in = nn.Conv2d(config.z_channels, widths[0], 3, padding=1)
        self.middle = Middle(widths[0], config.middle_attention, norm)
        self.levels = nn.ModuleList(  # coarse to fine
            Level(before, width, config.decoder_blocks, coarsest - index in config.attention_levels, norm)
            for index, (before, width) in enumerate(zip(widths[:1] + widths, widths, strict=False))
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[:-1])
        self.norm_out = norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3 * config.patch_size**2, 3, padding=1)

    def forward(self, x: Tensor, z_q: Tensor) -> Tensor:
        x = self.middle(self.conv_in(x), z_q)
        for index, level in enumerate(self.levels):
            x = level(x, z_q)
            if index < len(self.upsamples):
                x = self.upsamples[index](x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x, z_q))), self.patch_size)


class MoVQ(nn.Module):
    """The tokenizer: pixels to codes and back, at any size that the grid divides."""

    def __init__(self, config: MoVQConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)
        self.quantizer = MultichannelQuantizer(config.code_channels, config.codebook_size, config.code_dim)
        self.post_quant_conv = nn.Conv2d(config.z_channels, config.z_channels, 1)
        self.decoder = Decoder(config)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, h, w) in [-1, 1] -> z (B, z_channels, h/f, w/f), not yet quantised."""
        check_size(pixels, self.config.downsampling_factor)
        return self.quant_conv(self.encoder(pixels))

    def decode(self, z_q: Tensor) -> Tensor:
        """z_q (B, z_channels, H, W) -> pixels (B, 3, H*f, W*f), about [-1, 1], not clamped."""
        return self.decoder(self.post_quant_conv(z_q), z_q)

    def encode_codes(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, h, w) in [-1, 1] -> codes (B, C, h/f, w/f) int64."""
        return self.quantizer.encode(self.encode(pixels))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, C, H, W) -> pixels (B, 3, H*f, W*f) in [-1, 1]."""
        return self.decode(self.quantizer.decode(codes)).clamp(-1.0, 1.0)

    def optimized(self, compiler: bool | None = None, folder: Path | None = None) -> OptimizedMoVQ:
        """The served form: encode, decode and both `_codes`, with the same outputs but for rounding, faster.

        Its forms are timed on one image, which takes a moment; `folder` keeps what was chosen. `compiler`
        allows what torch's compiler builds on a CPU; None: where the decoder is slow enough to pay for it.
        """
        from movq_core.models.optimized.movq import OptimizedMoVQ  # noqa: PLC0415 - it stands on this module

        return OptimizedMoVQ(self, compiler, folder)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruction (not clamped) and the quantiser's outcome, for training."""
        quantized = self.quantizer(self.encode(pixels))
        return self.decode(quantized.z_q), quantized


def check_size(pixels: Tensor, factor: int) -> None:
    """Raises ValueError for sides that are not multiples of `factor`."""
    if pixels.shape[-1] % factor or pixels.shape[-2] % factor:
        raise ValueError(f"height and width must be multiples of {factor}, got {tuple(pixels.shape)}")
