"""The trunk of both priors: pre-norm transformer blocks, embeddings and heads of codes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movq_core.config import PriorConfig

# On two threads MKL splits the long sums of a small batch, and then a row's logits depend on its company.
# STRICT forbids it, at no measurable price; read at MKL's first product, not at import (decision 6).
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


@dataclass
class KeyValueCache:
    """Keys and values (B, heads, N, D/heads) of one layer, of the `length` codes seen so far."""

    keys: Tensor
    values: Tensor
    length: int = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the next codes' (B, heads, n, D/heads); returns those of all codes seen."""
        start, self.length = self.length, self.length + keys.shape[2]
        self.keys[:, :, start : self.length] = keys
        self.values[:, :, start : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


class Attention(nn.Module):
    """Multi-head self-attention; `causal` lets a vector see itself and those before it only."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.causal = causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """x (B, N, D) -> (B, N, D); with a cache, x holds the one next vector, (B, 1, D)."""
        batch, positions, width = x.shape
        qkv = self.qkv(x).view(batch, positions, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D/heads) each
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        # The one next vector may see all that the cache holds: there is nothing to hide.
        causal = self.causal and cache is None
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
        return self.out(h.transpose(1, 2).reshape(batch, positions, width))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP, both residual."""

    def __init__(self, config: PriorConfig, causal: bool = False) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.dropout, causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), cache))
        return x + self.dropout(self.mlp(self.norm2(x)))


class CodeHead(nn.Module):
    """Vectors (..., D) to logits (..., K) of the codes of one channel.

    Tied, a code's weights are its row of the channel's embedding, as in BERT and MaskGIT.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.codebook_size = config.codebook_size
        self.weight: nn.Parameter | None = None
        if not config.tied:
            self.weight = nn.Parameter(torch.empty(config.codebook_size, config.width))
            nn.init.trunc_normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(config.codebook_size))

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """`table` (K or K + 1, D): the channel's embedding."""
        weight = table[: self.codebook_size] if self.weight is None else self.weight
        return F.linear(x, weight, self.bias)


def initialise(module: nn.Module) -> None:
    """BERT's truncated normal of 0.02, as MaskGIT starts; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
