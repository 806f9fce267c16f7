"""Shapes of the two models, and the named presets; frozen and torch-free.

The upper bounds are far beyond any model: they keep a hostile config.json from costing more than a moment.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_Multiplier = Annotated[int, Field(ge=1, le=256)]


class MoVQConfig(BaseModel):
    """Stage 1, the tokenizer.

    Pixels are folded `patch_size` to a side into channels, then halved `len(channel_multipliers) - 1`
    times; the grid is `image_size / downsampling_factor` to a side. `z` has `code_channels * code_dim`
    channels, cut into `code_channels` sub-vectors that share one codebook.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(default=256, ge=8, le=2**14)  # pixels to a side in training
    patch_size: int = Field(default=1, ge=1, le=256)
    base_channels: int = Field(default=128, ge=1, le=2**14)
    channel_multipliers: tuple[_Multiplier, ...] = Field(default=(1, 1, 2, 2, 4), min_length=1, max_length=12)
    encoder_blocks: int = Field(default=2, ge=1, le=64)  # residual blocks a level
    decoder_blocks: int = Field(default=3, ge=1, le=64)
    attention_levels: tuple[int, ...] = (4,)  # 0 is the finest level
    middle_attention: bool = True
    code_channels: int = Field(default=4, ge=1, le=255)
    code_dim: int = Field(default=64, ge=1, le=2**14)  # the paper's value is inferred
    codebook_size: int = Field(default=1024, ge=2, le=2**16)
    norm_groups: int = Field(default=32, ge=1, le=2**14)
    decoder_norm: Literal["spatial", "group"] = "spatial"  # "group": the plain VQGAN decoder
    norm_affine: bool = True  # GroupNorm's own weight and bias beside the modulation

    @property
    def z_channels(self) -> int:
        return self.code_channels * self.code_dim

    @property
    def downsampling_factor(self) -> int:
        return int(self.patch_size * 2 ** (len(self.channel_multipliers) - 1))

    @property
    def grid_size(self) -> int:
        """Codes to a side of a training image."""
        return self.image_size // self.downsampling_factor

    @property
    def bits_per_code(self) -> float:
        return math.log2(self.codebook_size)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_size % self.downsampling_factor:
            raise ValueError(f"image_size {self.image_size} is not a multiple of {self.downsampling_factor}")
        if any(self.base_channels * m % self.norm_groups for m in self.channel_multipliers):
            raise ValueError("norm_groups must divide the channels of every level")
        return self


class PriorConfig(BaseModel):
    """Stage 2, a prior: a transformer over a grid of `grid_size` squared positions of `code_channels` codes.

    `num_classes` classes and one null class (index `num_classes`), for guidance and for
    unconditional images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code_channels: int = Field(default=4, ge=1, le=255)
    codebook_size: int = Field(default=1024, ge=2, le=2**16)
    grid_size: int = Field(default=16, ge=1, le=2**10)
    num_classes: int = Field(default=1000, ge=0, le=2**20)
    width: int = Field(default=1024, ge=1, le=2**16)
    depth: int = Field(default=24, ge=1, le=512)
    heads: int = Field(default=16, ge=1, le=2**10)  # the paper's value is inferred
    mlp_ratio: int = Field(default=4, ge=1, le=64)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    tied: bool = False  # a code's logit is the product with its own embedding, as in BERT and MaskGIT

    @property
    def codes_per_image(self) -> int:
        return self.code_channels * self.grid_size**2

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class MaskGITConfig(PriorConfig):
    """The masked prior: bidirectional, one vector a position."""


class AutoregressiveConfig(PriorConfig):
    """The autoregressive prior: the same trunk with causal attention, one vector a code."""


# Kandinsky's tokenizers, public under ai-forever/MoVQGAN: f 8, one channel, 16384 codes of 4 numbers.
_MOVQGAN = MoVQConfig(
    base_channels=128,
    channel_multipliers=(1, 2, 2, 4),
    encoder_blocks=2,
    decoder_blocks=3,
    attention_levels=(3,),
    code_channels=1,
    code_dim=4,
    codebook_size=16384,
)

MOVQ_PRESETS: dict[str, MoVQConfig] = {
    # The paper's: 16x16x4 codes of 1024 for 256x256 pixels.
    "movq-256": MoVQConfig(),
    # Kandinsky 2.1 and 2.2; twice the blocks; Kandinsky 3.
    "movqgan-67m": _MOVQGAN,
    "movqgan-102m": _MOVQGAN.model_copy(update={"encoder_blocks": 4, "decoder_blocks": 5}),
    "movqgan-270m": _MOVQGAN.model_copy(update={"base_channels": 256}),
    # The demo's: two cores train it in an hour; no attention, a patch of 4 as the stem.
    "emoji-64": MoVQConfig(
        image_size=64,
        patch_size=4,
        base_channels=64,
        channel_multipliers=(1, 2),
        decoder_blocks=2,
        attention_levels=(),
        middle_attention=False,
        code_dim=8,
        codebook_size=512,
        norm_groups=16,
        norm_affine=False,
    ),
    # Seconds to build and run: for tests.
    "tiny": MoVQConfig(
        image_size=16,
        patch_size=2,
        base_channels=16,
        channel_multipliers=(1, 2),
        encoder_blocks=1,
        decoder_blocks=1,
        attention_levels=(1,),
        code_channels=2,
        code_dim=4,
        codebook_size=32,
        norm_groups=4,
    ),
}

MASKGIT_PRESETS: dict[str, MaskGITConfig] = {
    # The paper's: about 307 M parameters, which is this shape with tied embeddings.
    "imagenet-256": MaskGITConfig(tied=True),
    "ffhq-256": MaskGITConfig(num_classes=0, tied=True),
    "emoji-64": MaskGITConfig(codebook_size=512, grid_size=8, num_classes=14, width=256, depth=6, heads=8),
    "tiny": MaskGITConfig(
        code_channels=2, codebook_size=32, grid_size=4, num_classes=3, width=32, depth=2, heads=2
    ),
}

AUTOREGRESSIVE_PRESETS: dict[str, AutoregressiveConfig] = {
    name: AutoregressiveConfig.model_validate(config.model_dump()) for name, config in MASKGIT_PRESETS.items()
}
