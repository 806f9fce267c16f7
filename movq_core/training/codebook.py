"""CodebookEMA: k-means start, moving averages and revival of dead codes, for training only."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from movq_core.models.quantizer import MultichannelQuantizer
from movq_core.training.distributed import Ranks

MAX_VECTORS_A_CODE = 256  # more would not move the means of the first k-means


class CodeUsage(NamedTuple):
    """Of one step's codes on all ranks: `revived` codes, `used` share of the codebook, `perplexity`."""

    revived: int
    used: float
    perplexity: float


class CodebookEMA:
    """Moves each code to the running mean of the vectors it stands for (van den Oord et al. 2017).

    `usage` (K,) is the running count a step. A code used less than `revive_below` of the mean is moved
    onto a vector of the batch at hand: an unused code teaches nobody. With `learns` "gradient" the
    optimiser moves the codes, and only the dead are moved here; with "nothing" all stay.

    Counts, sums and revived vectors are those of all ranks, and the random choices are made on the CPU by
    torch's own generator, which stands at the same place on every rank: so codebooks stay equal.
    """

    def __init__(
        self,
        quantizer: MultichannelQuantizer,
        decay: float = 0.99,
        revive_below: float = 0.03,
        learns: Literal["ema", "gradient", "nothing"] = "ema",
        ranks: Ranks | None = None,
    ) -> None:
        quantizer.codebook.requires_grad_(learns == "gradient")
        self.quantizer = quantizer
        self.decay = decay
        self.revive_below = revive_below
        self.learns = learns
        self.ranks = ranks or Ranks()
        self.usage = torch.zeros(len(quantizer.codebook), device=quantizer.codebook.device)
        self.sums = torch.zeros_like(quantizer.codebook)

    def state_dict(self) -> dict[str, Tensor]:
        return {"usage": self.usage, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.usage.copy_(state["usage"])
        self.sums.copy_(state["sums"])

    @torch.no_grad()
    def start(self, vectors: Tensor, rounds: int = 10) -> None:
        """K-means over `vectors` (N, D), N >= K, of all ranks: the codebook begins where the encoder is."""
        codebook = self.quantizer.codebook
        order, most = torch.randperm(len(vectors)), MAX_VECTORS_A_CODE * len(codebook)
        codebook.copy_(vectors[order[: len(codebook)]])
        if len(vectors) > most:
            vectors = vectors[order[:most]]
        for _ in range(rounds):
            sums, counts = self._sums(vectors, torch.cdist(vectors, codebook).argmin(1))
            means = sums / counts.clamp(min=1.0)[:, None]
            codebook.copy_(torch.where(counts[:, None] > 0, means, codebook))
        self.sums, self.usage = sums, counts
        for tensor in (codebook, self.sums, self.usage):
            self.ranks.agree(tensor)

    @torch.no_grad()
    def adopt(self, vectors: int) -> None:
        """Begin with the codebook as it is, as if the `vectors` of a step were shared out equally."""
        self.usage.fill_(vectors / len(self.usage))
        self.sums.copy_(self.quantizer.codebook * self.usage[:, None])

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor) -> CodeUsage:
        """Learn from this rank's part of a step: z (B, C*D, H, W) and its codes (B, C, H, W)."""
        vectors = self.quantizer.split(z.float()).flatten(0, -2)
        sums, counts = map(self.ranks.sum, self._sums(vectors, codes.flatten()))
        self.usage.lerp_(counts, 1.0 - self.decay)
        self.sums.lerp_(sums, 1.0 - self.decay)
        if self.learns == "ema":
            self.quantizer.codebook.copy_(self.sums / self.usage.clamp(min=1e-3)[:, None])
        revived = 0 if self.learns == "nothing" else self._revive(vectors)
        perplexity = torch.special.entr(counts / counts.sum()).sum().exp()
        return CodeUsage(revived, (counts > 0).float().mean().item(), perplexity.item())

    def _revive(self, vectors: Tensor) -> int:
        mean_usage = self.usage.mean()
        dead = (self.usage < self.revive_below * mean_usage).nonzero()[:, 0]
        everywhere = len(vectors) * self.ranks.count
        dead = dead[:everywhere]
        if len(dead):
            chosen = self._take(vectors, torch.randperm(everywhere)[: len(dead)])
            self.quantizer.codebook[dead] = chosen
            self.usage[dead] = mean_usage
            self.sums[dead] = chosen * mean_usage
        return len(dead)

    def _take(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Those of the ranks' vectors (n, D), counted one rank after another: (len(rows), D)."""
        rows = rows.to(vectors.device) - self.ranks.rank * len(vectors)
        mine = (rows >= 0) & (rows < len(vectors))
        return self.ranks.sum(torch.where(mine[:, None], vectors[rows.clamp(0, len(vectors) - 1)], 0.0))

    def _sums(self, vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(self.sums).index_add_(0, codes, vectors)
        counts = torch.bincount(codes, minlength=len(self.usage)).to(self.usage.dtype)
        return sums, counts


def usage_entropy(z: Tensor, quantizer: MultichannelQuantizer, temperature: float, ranks: Ranks) -> Tensor:
    """Entropy in nats, at most log K, of how the ranks' vectors spread over the codes: scalar, to maximise.

    z (B, C*D, H, W). A vector belongs to the codes by the softmax of its squared distances over
    `temperature`. The spread is that of all ranks; the gradient is this rank's share times their number, so
    that the mean over the ranks is the whole.
    """
    with torch.autocast(z.device.type, enabled=False):
        vectors, codebook = quantizer.split(z.float()).flatten(0, -2), quantizer.codebook
        distances = codebook.pow(2).sum(1) - 2.0 * vectors @ codebook.t()
        mine = (-distances / temperature).softmax(1).mean(0)
        everywhere = mine + (ranks.mean(mine) - mine.detach())
        return torch.special.entr(everywhere).sum()
