"""A million draws against the exact softmax, and against torch.multinomial's; what bias would be seen."""

import pytest
import torch

from movq_core.sampling.step import unmask_step
from tests.movq_core.sampling.chi_square import (
    ALMOST_NEVER,
    DRAWS,
    HARD,
    SOFT,
    K,
    chance_of_counts,
    chance_of_two,
    drawn_counts,
    softmax,
)
from tests.movq_core.sampling.step_rows import step_rows


def biased(logits):
    """Every other code a percent likelier, the others a percent less."""
    return (logits.double() + torch.tensor([0.01, -0.01]).repeat(K // 2)).float()


@pytest.mark.parametrize("logits", [SOFT, HARD], ids=["soft", "hard"])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_codes_follow_the_softmax_at_every_temperature(logits, temperature):
    """Catches probabilities that are wrong by a percent: a tail cut off, a temperature of 0.99."""
    chance = chance_of_counts(drawn_counts(logits, temperature), softmax(logits, temperature))
    assert chance > ALMOST_NEVER


@pytest.mark.parametrize("top_k", [2, 7, K - 1, K, K + 1])
def test_of_the_likeliest_codes_alone_those_are_drawn_in_proportion(top_k):
    chance = chance_of_counts(drawn_counts(SOFT, 0.8, top_k), softmax(SOFT, 0.8, top_k))
    assert chance > ALMOST_NEVER


@pytest.mark.parametrize("logits", [SOFT, HARD], ids=["soft", "hard"])
def test_codes_are_counted_like_those_of_multinomial(logits):
    """Catches what the exact test does, at twice the size, without any belief about what is right."""
    generator = torch.Generator().manual_seed(1)
    others = torch.multinomial(softmax(logits), DRAWS, replacement=True, generator=generator)
    assert chance_of_two(drawn_counts(logits), torch.bincount(others, minlength=K)) > ALMOST_NEVER


@pytest.mark.parametrize("logits", [SOFT, HARD], ids=["soft", "hard"])
def test_a_bias_of_a_percent_would_be_seen(logits):
    assert chance_of_counts(drawn_counts(biased(logits)), softmax(logits)) < ALMOST_NEVER


@pytest.mark.parametrize("temperature", [0.99, 1.01])
def test_a_temperature_off_by_a_percent_would_be_seen(temperature):
    assert chance_of_counts(drawn_counts(HARD, temperature), softmax(HARD)) < ALMOST_NEVER


def test_noise_of_scale_one_keeps_an_entry_in_proportion_to_its_probability():
    """Gumbel's trick: log p + Gumbel is the largest with chance p / sum of all p.

    Catches a Gumbel or a ranking that is wrong by two percent. Entry i has 2**i equally likely codes.
    """
    rows, entries = 2**18, 4
    logits = torch.where(torch.arange(8) < 2 ** torch.arange(entries)[:, None], 0.0, -torch.inf)
    seeds = torch.arange(rows)
    step = step_rows(seeds, seeds % 5, torch.full((rows,), entries - 1), torch.ones(rows), torch.ones(rows))
    masked = torch.full((rows, 1, 1, entries), 8)
    codes = unmask_step(logits.expand(rows, 1, 1, entries, 8), masked, 8, step)
    kept = (codes != 8).flatten(1)
    assert (kept.sum(1) == 1).all()
    weights = 0.5 ** torch.arange(entries, dtype=torch.float64)
    assert chance_of_counts(kept.sum(0), weights / weights.sum()) > ALMOST_NEVER
