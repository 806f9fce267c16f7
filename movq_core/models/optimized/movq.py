"""OptimizedMoVQ: the served form of a MoVQ; same methods, less work.

Channels-last throughout; norms modulated on the grid; norm, modulation and SiLU
as one multiply-add and one activation; residuals added in place; each 3x3 convolution in the form that is
fastest on this machine. Differs from the plain module, which stays the oracle, by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.models import movq as plain
from movq_core.models.optimized.choices import Choices, seconds_of
from movq_core.models.optimized.convolution import (
    Convolution,
    activate,
    as_channels_first,
    as_channels_last,
)
from movq_core.models.optimized.norm import Activation, GridNorm, moments_of


class Builder:
    """Turns plain layers into optimized ones."""

    def __init__(self, choices: Choices, compiler: bool) -> None:
        self._choices = choices
        self._compiler = compiler

    def convolution(self, conv: nn.Conv2d) -> Convolution:
        return self._convolution(conv, False, ("direct",))

    def upsample(self, layer: nn.Module) -> Convolution:
        assert isinstance(layer, plain.Upsample)
        return self._convolution(layer.conv, True, ("direct", "sub-pixel"))

    def _convolution(self, conv: nn.Conv2d, upsample: bool, forms: tuple[str, ...]) -> Convolution:
        forms = (*forms, "winograd") if self._compiler else forms
        return Convolution(conv, upsample, forms, self._choices)

    def middle(self, middle: plain.Middle) -> list[Layer]:
        attention = [] if middle.attention is None else [Attention(middle.attention)]
        return [ResidualBlock(middle.block1, self), *attention, ResidualBlock(middle.block2, self)]

    def level(self, level: nn.Module) -> list[Layer]:
        assert isinstance(level, plain.Level)
        layers: list[Layer] = []
        for index, block in enumerate(level.blocks):
            assert isinstance(block, plain.ResidualBlock)
            layers.append(ResidualBlock(block, self))
            layers += [Attention(attention) for attention in level.attentions[index : index + 1]]
        return layers


class ResidualBlock:
    """`plain.ResidualBlock`; writes its result over its input where the width stays."""

    def __init__(self, block: plain.ResidualBlock, builder: Builder) -> None:
        self._norms = GridNorm(block.norm1), GridNorm(block.norm2)
        self._convs = builder.convolution(block.conv1), builder.convolution(block.conv2)
        self._shortcut = block.shortcut if isinstance(block.shortcut, nn.Conv2d) else None

    def __call__(self, here: Activation, z_q: Tensor | None) -> None:
        h, moments = self._convs[0](here.x, self._norms[0](here.moments, z_q))
        if self._shortcut is not None:
            here.x = _pointwise(self._shortcut, here.x)
        here.x, here.moments = self._convs[1](h, self._norms[1](moments, z_q), residual=here.x)


class Attention:
    """`plain.SpatialAttention`; its 1x1 convs are products over the last axis."""

    def __init__(self, attention: nn.Module) -> None:
        assert isinstance(attention, plain.SpatialAttention)
        self._norm = GridNorm(attention.norm)
        self._qkv, self._out = attention.qkv, attention.out

    def __call__(self, here: Activation, z_q: Tensor | None) -> None:
        h = self._norm(here.moments, z_q).apply(here.x).flatten(1, 2)  # (B, H*W, N)
        q, k, v = _pointwise(self._qkv, h).unsqueeze(1).chunk(3, dim=-1)
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        here.x.add_(_pointwise(self._out, h).view_as(here.x))
        here.moments = moments_of(here.x)


Layer = ResidualBlock | Attention
EncoderHalf = Callable[[Tensor], Tensor]
DecoderHalf = Callable[[Tensor, Tensor], Tensor]


class OptimizedEncoder:
    """`plain.Encoder`: pixels (B, 3, h, w) to features (B, z_channels, h/f, w/f)."""

    def __init__(self, encoder: plain.Encoder, choices: Choices, compiler: bool) -> None:
        builder = Builder(choices, compiler)
        self._patch_size = encoder.patch_size
        self._conv_in, self._conv_out = encoder.conv_in, encoder.conv_out
        self._downsamples = encoder.downsamples
        self._levels = [builder.level(level) for level in encoder.levels]
        self._middle = builder.middle(encoder.middle)
        self._norm_out = GridNorm(encoder.norm_out)

    def __call__(self, pixels: Tensor) -> Tensor:
        here = _activation(self._conv_in, F.pixel_unshuffle(pixels, self._patch_size))
        for index, level in enumerate(self._levels):
            for layer in level:
                layer(here, None)
            if index < len(self._downsamples):
                here = _activation(self._downsamples[index], as_channels_first(here.x))
        for layer in self._middle:
            layer(here, None)
        h = activate(here.x, self._norm_out(here.moments, None))
        return self._conv_out(as_channels_first(h)).contiguous()


class OptimizedDecoder:
    """`plain.Decoder`: x and z_q (B, z_channels, H, W) to pixels (B, 3, H*f, W*f)."""

    def __init__(self, decoder: plain.Decoder, choices: Choices, compiler: bool) -> None:
        builder = Builder(choices, compiler)
        self._patch_size = decoder.patch_size
        self._conv_in, self._conv_out = decoder.conv_in, decoder.conv_out
        self._middle = builder.middle(decoder.middle)
        self._levels = [builder.level(level) for level in decoder.levels]
        self._upsamples = [builder.upsample(upsample) for upsample in decoder.upsamples]
        self._norm_out = GridNorm(decoder.norm_out)

    def __call__(self, x: Tensor, z_q: Tensor) -> Tensor:
        z_q = as_channels_last(z_q)
        here = _activation(self._conv_in, x)
        for layer in self._middle:
            layer(here, z_q)
        for index, level in enumerate(self._levels):
            for layer in level:
                layer(here, z_q)
            if index < len(self._upsamples):
                here.x, here.moments = self._upsamples[index](here.x)
        h = activate(here.x, self._norm_out(here.moments, z_q))
        return F.pixel_shuffle(self._conv_out(as_channels_first(h)), self._patch_size)


# A decoder that takes longer for one image is worth the seconds that torch's compiler takes to build.
COMPILER_PAYS_S = 0.1


class OptimizedMoVQ:
    """What `MoVQ.optimized()` gives: each half plain or optimized, whichever is faster here.

    `choices.names` says what was chosen.
    """

    def __init__(self, movq: plain.MoVQ, compiler: bool | None = None, folder: Path | None = None) -> None:
        self.config = movq.config
        self.quantizer = movq.quantizer
        self._quant_conv, self._post_quant_conv = movq.quant_conv, movq.post_quant_conv
        self._encoder: EncoderHalf = movq.encoder
        self._decoder: DecoderHalf = movq.decoder
        self.choices = Choices(movq.config, movq.quantizer.codebook.device, folder)
        self._choose(movq, compiler)
        self.choices.save()

    @torch.inference_mode()
    def _choose(self, movq: plain.MoVQ, compiler: bool | None) -> None:
        """Time the halves, and their convolutions, on one image of the size that the model was trained on."""
        weight = movq.quant_conv.weight
        pixels = weight.new_zeros(1, 3, self.config.image_size, self.config.image_size)
        z_q = self.quantizer.decode(movq.encode_codes(pixels)).to(weight.dtype)
        x = movq.post_quant_conv(z_q)
        if compiler is None:
            compiler = self._compiler_pays(lambda: movq.decoder(x, z_q))
        encoder = OptimizedEncoder(movq.encoder, self.choices, compiler)
        decoder = OptimizedDecoder(movq.decoder, self.choices, compiler)
        encoders: dict[str, EncoderHalf] = {"optimized": encoder, "plain": movq.encoder}
        decoders: dict[str, DecoderHalf] = {"optimized": decoder, "plain": movq.decoder}
        halves = ("optimized", "plain")
        self._encoder = encoders[self.choices.pick("encoder", halves, lambda half: encoders[half](pixels))]
        self._decoder = decoders[self.choices.pick("decoder", halves, lambda half: decoders[half](x, z_q))]

    def _compiler_pays(self, decode: Callable[[], object]) -> bool:
        """Whether the decoder is so slow that seconds of building come back; a choice like the others."""
        if self.choices.names.get("compiler") is None:
            self.choices.names["compiler"] = "yes" if seconds_of(decode) > COMPILER_PAYS_S else "no"
        return self.choices.names["compiler"] == "yes"

    def encode(self, pixels: Tensor) -> Tensor:
        """As `MoVQ.encode`."""
        plain.check_size(pixels, self.config.downsampling_factor)
        return self._quant_conv(self._encoder(pixels))

    def decode(self, z_q: Tensor) -> Tensor:
        """As `MoVQ.decode`."""
        return self._decoder(self._post_quant_conv(z_q), z_q)

    def encode_codes(self, pixels: Tensor) -> Tensor:
        """As `MoVQ.encode_codes`."""
        return self.quantizer.encode(self.encode(pixels))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """As `MoVQ.decode_codes`."""
        return self.decode(self.quantizer.decode(codes)).clamp_(-1.0, 1.0)


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution of x (..., N)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _activation(conv: nn.Module, x: Tensor) -> Activation:
    """What `conv` makes of x (B, N, H, W)."""
    y = as_channels_last(conv(x))
    return Activation(y, moments_of(y))
