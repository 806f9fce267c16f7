"""CodebookEMA: k-means start, moving averages and revival of dead codes, for training only."""

from __future__ import annotations

import torch
from torch import Tensor

from movq_core.models.quantizer import MultichannelQuantizer


class CodebookEMA:
    """Moves each code to the running mean of the vectors it stands for (van den Oord et al. 2017).

    `usage` (K,) is the running count a batch. A code used less than `revive_below` of the mean is moved
    onto a vector of the batch at hand: an unused code teaches nobody.
    """

    def __init__(
        self, quantizer: MultichannelQuantizer, decay: float = 0.99, revive_below: float = 0.03
    ) -> None:
        quantizer.codebook.requires_grad_(False)
        self.quantizer = quantizer
        self.decay = decay
        self.revive_below = revive_below
        self.usage = torch.zeros(len(quantizer.codebook), device=quantizer.codebook.device)
        self.sums = torch.zeros_like(quantizer.codebook)

    def state_dict(self) -> dict[str, Tensor]:
        return {"usage": self.usage, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.usage.copy_(state["usage"])
        self.sums.copy_(state["sums"])

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 10) -> None:
        """K-means over `vectors` (N, D), N >= K: the codebook begins where the encoder is."""
        codebook = self.quantizer.codebook
        codebook.copy_(vectors[torch.randperm(len(vectors))[: len(codebook)]])
        for _ in range(rounds):
            sums, counts = self._sums(vectors, torch.cdist(vectors, codebook).argmin(1))
            means = sums / counts.clamp(min=1.0)[:, None]
            codebook.copy_(torch.where(counts[:, None] > 0, means, codebook))
        self.sums, self.usage = sums, counts

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor) -> int:
        """Learn from a batch: z (B, C*D, H, W) and its codes (B, C, H, W); returns the codes revived."""
        vectors = self.quantizer.split(z.float()).flatten(0, -2)
        sums, counts = self._sums(vectors, codes.flatten())
        self.usage.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        codebook = self.quantizer.codebook
        codebook.copy_(self.sums / self.usage.clamp(min=1e-3)[:, None])
        return self._revive(vectors)

    def _revive(self, vectors: Tensor) -> int:
        mean_usage = self.usage.mean()
        dead = (self.usage < self.revive_below * mean_usage).nonzero()[:, 0]
        dead = dead[: len(vectors)]
        if len(dead):
            chosen = vectors[torch.randperm(len(vectors), device=vectors.device)[: len(dead)]]
            self.quantizer.codebook[dead] = chosen
            self.usage[dead] = mean_usage
            self.sums[dead] = chosen * mean_usage
        return len(dead)

    def _sums(self, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        counts = torch.bincount(codes, minlength=len(self.usage)).to(self.usage.dtype)
        return sums, counts
