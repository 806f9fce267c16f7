"""Autoregressive: the paper's other prior, code after code; the baseline of MaskGIT's claim.

The same trunk as MaskGIT with causal attention, over the H*W*C codes one by one: position after position, and
the C codes of a position one after another. Zheng et al. 2022, section 3.3; how the channels are put in line
is not in the paper (*inferred*).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from movq_core.config import AutoregressiveConfig
from movq_core.models.transformer import CodeHead, KeyValueCache, TransformerBlock, initialise


class Autoregressive(nn.Module):
    """Logits of each code, given its class and all codes before it.

    The vector that predicts code n is the embedding of code n - 1 (of the class, for the first) and the
    place n. Class `null_class` = `num_classes` means none.
    """

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__()
        self.config = config
        self.null_class = config.num_classes
        channels, width = config.code_channels, config.width
        self.code_embeddings = nn.ModuleList(
            nn.Embedding(config.codebook_size, width) for _ in range(channels)
        )
        self.class_embedding = nn.Embedding(config.num_classes + 1, width)
        self.place = nn.Parameter(torch.zeros(1, config.codes_per_image, width))
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(config, causal=True) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width)
        self.heads = nn.ModuleList(CodeHead(config) for _ in range(channels))
        self.apply(initialise)
        nn.init.trunc_normal_(self.place, std=0.02)

    def forward(self, codes: Tensor, class_ids: Tensor) -> Tensor:
        """codes (B, C, H, W), class_ids (B,) -> logits (B, C, H, W, K), each given the codes before it."""
        channels, (height, width) = self.config.code_channels, codes.shape[-2:]
        tables = zip(self.code_embeddings, codes.flatten(2).unbind(1), strict=True)
        embedded = torch.stack([table(c) for table, c in tables], dim=2).flatten(1, 2)  # (B, H*W*C, D)
        x = torch.cat([self.class_embedding(class_ids)[:, None], embedded[:, :-1]], dim=1)
        x = self.norm_in(x + self.place)
        for block in self.blocks:
            x = block(x)
        positions = self.norm_out(x).unflatten(1, (-1, channels)).unbind(2)  # C of (B, H*W, D)
        heads = zip(self.heads, self.code_embeddings, positions, strict=True)
        logits = torch.stack([head(x, table.weight) for head, table, x in heads], dim=1)  # (B, C, H*W, K)
        return logits.unflatten(2, (height, width))

    def empty_caches(self, batch: int) -> list[KeyValueCache]:
        """One cache a layer, room for all codes of an image."""
        config = self.config
        shape = (batch, config.heads, config.codes_per_image, config.width // config.heads)
        return [KeyValueCache(self.place.new_empty(shape), self.place.new_empty(shape)) for _ in self.blocks]

    def next_logits(self, before: Tensor, place: int, caches: list[KeyValueCache]) -> Tensor:
        """Logits (B, K) of code number `place`, from what stands before it and the caches of the rest.

        `before` (B,) is code number `place - 1`, or the class ids for the first. Equal to `forward` up to
        rounding.
        """
        channels = self.config.code_channels
        table = self.class_embedding if place == 0 else self.code_embeddings[(place - 1) % channels]
        x = self.norm_in(table(before)[:, None] + self.place[:, place : place + 1])  # (B, 1, D)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        channel = place % channels
        return self.heads[channel](self.norm_out(x[:, 0]), self.code_embeddings[channel].weight)
