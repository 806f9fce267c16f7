"""generate_codes: the naive loop."""

import pytest
import torch

from movq_core.params import MaskSchedule, SamplingParams
from movq_core.sampling.generate import generate_codes


@pytest.fixture(scope="module")
def prior(sharp_bundle):
    return sharp_bundle.maskgit


@pytest.mark.parametrize("schedule", MaskSchedule)
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_all_codes_are_settled(prior, schedule, steps):
    params = SamplingParams(steps=steps, seed=3, mask_schedule=schedule)
    codes = generate_codes(prior, 1, params)
    assert codes.shape == (1, 2, 4, 4)
    assert 0 <= codes.min() <= codes.max() < prior.mask_code


def test_the_seed_decides_the_image(prior):
    first = generate_codes(prior, 1, SamplingParams(seed=1))
    assert torch.equal(first, generate_codes(prior, 1, SamplingParams(seed=1)))
    assert not torch.equal(first, generate_codes(prior, 1, SamplingParams(seed=2)))


def test_guidance_of_one_is_off_and_three_is_not(prior):
    plain = generate_codes(prior, 1, SamplingParams(seed=1))
    assert torch.equal(plain, generate_codes(prior, 1, SamplingParams(seed=1, guidance_scale=1.0)))
    assert not torch.equal(plain, generate_codes(prior, 1, SamplingParams(seed=1, guidance_scale=9.0)))


def test_nothing_masked_is_nothing_made(prior):
    known = torch.arange(32).view(1, 2, 4, 4)
    assert torch.equal(generate_codes(prior, 1, SamplingParams(steps=4), known), known)


def test_known_codes_never_change(prior):
    known = torch.full((1, 2, 4, 4), prior.mask_code)
    known[:, :, :2] = 9
    codes = generate_codes(prior, None, SamplingParams(seed=1, steps=6), known)
    assert (codes[:, :, :2] == 9).all()
    assert (codes < prior.mask_code).all()
