"""MultichannelQuantizer: C sub-vectors a position, one codebook for all of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Quantized(NamedTuple):
    """What quantising `z` gives.

    `z_q` (B, C*D, H, W) carries the straight-through gradient to `z`; `codes` (B, C, H, W) int64;
    `codebook_loss` pulls the codes to `z`, `commitment_loss` pulls `z` to its codes (both scalar means).
    """

    z_q: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class MultichannelQuantizer(nn.Module):
    """Split `z` into `code_channels` sub-vectors and look each up in one shared codebook.

    Zheng et al. 2022, section 3.2. Distances are taken in float32, also under autocast: in half
    precision neighbouring codes cannot be told apart.
    """

    def __init__(self, code_channels: int, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.code_channels = code_channels
        self.code_dim = code_dim
        self.codebook = nn.Parameter(torch.empty(codebook_size, code_dim))
        # Taming's range: all codes start near the origin, where a fresh encoder's outputs are.
        nn.init.uniform_(self.codebook, -1.0 / codebook_size, 1.0 / codebook_size)

    def split(self, z: Tensor) -> Tensor:
        """(B, C*D, H, W) -> (B, C, H, W, D)."""
        return z.unflatten(1, (self.code_channels, self.code_dim)).permute(0, 1, 3, 4, 2)

    def encode(self, z: Tensor) -> Tensor:
        """Nearest codes of `z` (B, C*D, H, W): (B, C, H, W) int64."""
        with torch.autocast(z.device.type, enabled=False):
            vectors = self.split(z.float())
            codebook = self.codebook.float()
            # |v - c|^2 without |v|^2, which is the same for all codes
            distances = codebook.pow(2).sum(1) - 2.0 * vectors.reshape(-1, self.code_dim) @ codebook.t()
            return distances.argmin(1).reshape(vectors.shape[:-1])

    def decode(self, codes: Tensor) -> Tensor:
        """Vectors of `codes` (B, C, H, W): z_q (B, C*D, H, W)."""
        return F.embedding(codes, self.codebook).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def decode_masked(self, codes: Tensor) -> Tensor:
        """`decode` of codes of which some are masked (`codebook_size`): the codebook's mean is theirs."""
        table = torch.cat([self.codebook, self.codebook.mean(0, keepdim=True)])
        return F.embedding(codes, table).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def forward(self, z: Tensor) -> Quantized:
        z = z.float()
        codes = self.encode(z.detach())
        z_q = self.decode(codes)
        codebook_loss = F.mse_loss(z_q, z.detach())
        commitment_loss = F.mse_loss(z, z_q.detach())
        return Quantized(z + (z_q - z).detach(), codes, codebook_loss, commitment_loss)
