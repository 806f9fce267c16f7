"""Pearson's chi-square over a million draws, with float64's exact softmax for a truth.

Seeds are fixed: a test passes always or never. Of samplers that are right, one seed in a million would fail.
"""

import torch

from movq_core.sampling.step import ALL_CODES, unmask_step
from tests.movq_core.sampling.step_rows import step_rows

DRAWS = 2**20
ALMOST_NEVER = 1e-6
K = 24
SOFT = torch.linspace(-1, 1, K).roll(5)
HARD = torch.linspace(-8, 2, K).roll(5)  # 35 % in one code, half a percent in the lighter half


def drawn_counts(logits, temperature=1.0, top_k=ALL_CODES):
    """How often `unmask_step` gives each code on the device of `logits` (K,): DRAWS entries of 256 seeds."""
    size, device = len(logits), logits.device
    counts = torch.zeros(size, dtype=torch.int64)
    rows, side = 16, 64
    heat, noise = torch.full((rows,), temperature, device=device), torch.ones(rows, device=device)
    for first in range(0, DRAWS // side**2, rows):
        seeds = torch.arange(first, first + rows, device=device)
        likeliest = torch.full_like(seeds, top_k)
        step = step_rows(seeds, seeds % 7, torch.zeros_like(seeds), heat, noise, top_k=likeliest)
        masked = torch.full((rows, 1, side, side), size, device=device)
        codes = unmask_step(logits.expand(*masked.shape, size), masked, size, step)
        counts += torch.bincount(codes.flatten(), minlength=size).cpu()
    assert counts.sum() == DRAWS
    return counts


def chance_of(statistic, degrees_of_freedom):
    """The chance that chi-square is this large or larger."""
    half = torch.tensor([degrees_of_freedom / 2, float(statistic) / 2], dtype=torch.float64)
    return torch.special.gammaincc(half[0], half[1]).item()


def chance_of_counts(counts, p):
    """Pearson's test of `counts` against probabilities `p` (float64); cells of less than 10 are one."""
    expected = p * counts.sum()
    rare = expected < 10
    observed = torch.cat([counts[~rare].double(), counts[rare].sum()[None].double()])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    cells = expected > 0
    statistic = ((observed - expected)[cells] ** 2 / expected[cells]).sum()
    return chance_of(statistic, int(cells.sum()) - 1)


def chance_of_two(counts, others):
    """The two-sample test: were both drawn from one distribution, whatever it is? Equal totals."""
    both = (counts + others).double()
    often = both >= 20
    statistic = ((counts - others)[often].double() ** 2 / both[often]).sum()
    return chance_of(statistic, int(often.sum()) - 1)


def softmax(logits, temperature=1.0, top_k=ALL_CODES):
    """Of the `top_k` largest logits alone; there are no ties among ours."""
    ranks = logits.argsort(descending=True).argsort()
    return torch.softmax(logits.double().masked_fill(ranks >= top_k, -torch.inf) / temperature, -1)
