"""What a machine can do at most, measured on it; and what a forward pass of the prior asks of it, counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from movq_core.config import PriorConfig


def prior_flops(config: PriorConfig) -> int:
    """Floating-point operations of one entry's forward pass of MaskGIT; a multiply-add is two.

    With T = H*W + 1 vectors (the class is one) of width D, L layers, an MLP of m*D, C channels of K codes:
    a layer's products with weights take 2*T*D*D*(4 + 2*m) (query, key, value and out are 4*D*D, the MLP is
    2*m*D*D), its attention 4*T*T*D (scores and their sum over values), and the heads 2*H*W*D*C*K.
    Norms, GELU, softmax and sampling are left out: they move bytes, and a matrix unit does none of them.
    """
    positions, width = config.grid_size**2, config.width
    vectors = positions + 1
    weights = 2 * vectors * width**2 * (4 + 2 * config.mlp_ratio)
    attention = 4 * vectors**2 * width
    heads = 2 * positions * width * config.code_channels * config.codebook_size
    return config.depth * (weights + attention) + heads


@dataclass(frozen=True)
class Product:
    """A square matrix product of `size`: FLOPs are 2 * size**3."""

    name: str
    size: int
    dtype: torch.dtype
    tf32: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.size**3

    def case(self, device: torch.device) -> Callable[[], None]:
        a, b = (torch.randn(self.size, self.size, device=device).to(self.dtype) for _ in range(2))
        out = torch.empty_like(a)

        def multiply() -> None:
            before = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
            torch.mm(a, b, out=out)
            torch.set_float32_matmul_precision(before)

        return multiply


def copy_case(size_bytes: int, device: torch.device) -> Callable[[], Tensor]:
    """A copy of so many bytes on the device: it reads them and writes them, 2 * `size_bytes` in all."""
    source = torch.ones(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
