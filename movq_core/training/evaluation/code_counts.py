"""How often each code of a codebook is used, and what the codes cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from movq_core.config import MoVQConfig
from movq_core.training.evaluation.figures import Figure


class CodeCounts:
    """Counts of the codes (K,) and of the pixels that they stand for."""

    def __init__(self, config: MoVQConfig) -> None:
        self._config = config
        self._counts = torch.zeros(config.codebook_size, dtype=torch.int64)
        self._pixels = 0

    def add(self, codes: Tensor, pixels: int) -> None:
        """codes (B, C, H, W) of `pixels` pixels in all: B times height times width."""
        self._counts += torch.bincount(codes.flatten().cpu(), minlength=len(self._counts))
        self._pixels += pixels

    @property
    def entropy_bits(self) -> float:
        """Of the frequencies of all codes together, whatever their channel and place; at most log2 K."""
        frequencies = self._counts.double() / self._counts.sum()
        return float(torch.special.entr(frequencies).sum()) / math.log(2.0)

    def figures(self) -> list[Figure]:
        """Share of the codebook, entropy, perplexity, and bits a pixel."""
        seen, size = int(self._counts.sum()), self._config.codebook_size
        a_pixel = seen / self._pixels
        entropy, packed = self.entropy_bits, self._config.bits_per_code
        return [
            Figure(
                "codebook used", int((self._counts > 0).sum()) / size, "", f"of {size}, in {seen:,} codes"
            ),
            Figure("code entropy", entropy, "bits", f"at most {packed:.4g}; of few codes too low"),
            Figure("code perplexity", 2.0**entropy, "codes", f"at most {size}"),
            Figure("bits a pixel, packed", packed * a_pixel, "bits", "log2 K bits a code"),
            Figure("bits a pixel, by entropy", entropy * a_pixel, "bits", "one table of frequencies for all"),
        ]
