"""MaskGIT: a bidirectional transformer that predicts all codes of an image at once.

Chang et al. 2022 (arXiv 2202.04200). How MoVQ's four channels enter and leave is not public; here as in
MaskBit (arXiv 2409.16211): embeddings summed over the channels, one head a channel.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.config import MaskGITConfig

# On two threads MKL splits the long sums of a small batch, and then a row's logits depend on its company.
# STRICT forbids it, at no measurable price; read at MKL's first product, not at import (decision 6).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


class Attention(nn.Module):
    """Multi-head self-attention over all positions, no mask."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        qkv = self.qkv(x).view(batch, positions, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D/heads) each
        dropout = self.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(h.transpose(1, 2).reshape(batch, positions, width))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, both residual."""

    def __init__(self, config: MaskGITConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


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
        self.heads = nn.ModuleList(nn.Linear(width, config.codebook_size) for _ in range(channels))
        self.apply(self._initialise)
        nn.init.trunc_normal_(self.place, std=0.02)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """BERT's truncated normal of 0.02, as MaskGIT starts."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

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
        logits = torch.stack([head(x) for head in self.heads], dim=1)  # (B, C, H*W, K)
        return logits.unflatten(2, (height, width))
