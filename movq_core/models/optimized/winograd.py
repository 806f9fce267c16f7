"""3x3 convolutions by Winograd's minimal filtering, F(4x4, 3x3): 36 products where 144 are in the definition.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015 (arXiv 1509.09308). A 6x6 tile of
the input and the 3x3 filter are transformed, multiplied entry by entry (36 matrix products over the channels)
and transformed back to 4x4 outputs. torch's compiler turns the two transforms into vectorised loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

TILE = 4  # outputs to a side
WINDOW = TILE + 2  # inputs to a side

# Lavin's matrices for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def transform_filter(weight: Tensor) -> Tensor:
    """weight (M, N, 3, 3) -> (36, N, M); in float64, once."""
    matrix = torch.tensor(_FILTER, dtype=torch.float64, device=weight.device)
    transformed = torch.einsum("ia,jb,mnab->ijnm", matrix, matrix, weight.double())
    return transformed.flatten(0, 1).to(weight.dtype).contiguous()


def transform_input(strip: Tensor) -> Tensor:
    """strip (4*t + 2, 4*u + 2, N), the halo included -> (36, t*u, N)."""
    tiles = strip.unfold(0, WINDOW, TILE).unfold(1, WINDOW, TILE)  # (t, u, N, 6, 6)
    entries = [[tiles[..., i, j] for j in range(WINDOW)] for i in range(WINDOW)]
    return _sandwich(_INPUT, entries).flatten(1, 2)


def transform_output(products: Tensor, bias: Tensor) -> Tensor:
    """products (36, T, M), bias (M,) -> (16, T, M): entry 4*i + j is pixel (i, j) of each tile."""
    square = products.unflatten(0, (WINDOW, WINDOW))
    entries = [[square[i, j] for j in range(WINDOW)] for i in range(WINDOW)]
    return _sandwich(_OUTPUT, entries) + bias


def _sandwich(matrix: Sequence[Sequence[float]], entries: list[list[Tensor]]) -> Tensor:
    """`matrix @ entries @ matrix.T`, with tensors for entries; stacked row by row."""
    columns = range(len(entries))
    half = [[_combine(row, [entries[k][j] for k in columns]) for j in columns] for row in matrix]
    return torch.stack([_combine(row, line) for line in half for row in matrix])


def _combine(coefficients: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """The sum of coefficient times term, without those that are zero."""
    scaled = [term if c == 1 else c * term for c, term in zip(coefficients, terms, strict=True) if c != 0]
    total = scaled[0]
    for term in scaled[1:]:
        total = total + term
    return total


@cache
def compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` by torch's compiler, once for all sizes; it is built at its first call."""
    return torch.compile(function, dynamic=True)
