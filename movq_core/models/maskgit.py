"""MaskGIT: a bidirectional transformer that predicts all codes of an image at once.

Chang et al. 2022 (arXiv 2202.04200). How MoVQ's four channels enter and leave is not public; here as in
MaskBit (arXiv 2409.16211): embeddings summed over the channels, one head a channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from movq_core.config import MaskGITConfig
from movq_core.models.transformer import CodeHead, TransformerBlock, initialise


class MaskGIT(nn.Module):
    """codes (B, C, H, W) with `mask_code` where unknown, and a class, to logits of every code.

    A position's vector is the sum of its C codes' embeddings (one table a channel) and its place; the
    class stands before the positions as one more. Class `null_class` = `num_classes` means none.
    """

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_code = config.codebook_size
        self.null_class = config.num_classes
        channels, width = config.code_channels, config.width
        self.code_embeddings = nn.ModuleList(
            nn.Embedding(config.codebook_size + 1, width) for _ in range(channels)
        )
        self.class_embedding = nn.Embedding(config.num_classes + 1, width)
        self.place = nn.Parameter(torch.zeros(1, config.grid_size**2 + 1, width))
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.depth))
        self.norm_out = nn.LayerNorm(width)
        self.heads = nn.ModuleList(CodeHead(config) for _ in range(channels))
        self.apply(initialise)
        nn.init.trunc_normal_(self.place, std=0.02)

    def forward(self, codes: Tensor, class_ids: Tensor) -> Tensor:
        """codes (B, C, H, W) in 0 .. codebook_size, class_ids (B,) -> logits (B, C, H, W, K)."""
        height, width = codes.shape[-2:]
        channels = codes.flatten(2).unbind(1)  # C of (B, H*W)
        x = torch.stack([table(c) for table, c in zip(self.code_embeddings, channels, strict=True)]).sum(0)
        x = torch.cat([self.class_embedding(class_ids)[:, None], x], dim=1)  # (B, 1 + H*W, D)
        x = self.norm_in(x + self.place)
        for block in self.blocks:
            x = block(x)
        x = self.norm_out(x[:, 1:])
        heads = zip(self.heads, self.code_embeddings, strict=True)
        logits = torch.stack([head(x, table.weight) for head, table in heads], dim=1)  # (B, C, H*W, K)
        return logits.unflatten(2, (height, width))
