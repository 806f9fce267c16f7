"""The raw model is a fair baseline only if it makes the images that everybody else makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.raw_model import RawModel
from benchmarks.serving.requests import mixed_requests, poisson_arrivals, request_of
from movq_core.bundle import ModelBundle
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest
from movq_core.sampling.generate import generate_codes


@pytest.fixture
def raw(sharp_bundle: ModelBundle, tmp_path: Path) -> RawModel:
    sharp_bundle.save(tmp_path)
    return RawModel(tmp_path)


def small(steps: int, seed: int) -> GenerateRequest:
    return GenerateRequest(class_id=seed % 3, sampling=SamplingParams(steps=steps, seed=seed))


@pytest.mark.parametrize("leave_early", [False, True])
def test_a_static_batch_of_mixed_steps_is_equal_to_the_naive_loop(raw: RawModel, leave_early: bool):
    requests = [small(steps, seed) for seed, steps in enumerate((4, 1, 7, 4))]

    codes = raw.codes(requests, leave_early)

    for request, image in zip(requests, codes, strict=True):
        assert np.array_equal(generate_codes(raw.prior, request.class_id, request.sampling)[0], image)


def test_guidance_is_refused(raw: RawModel):
    guided = GenerateRequest(class_id=0, sampling=SamplingParams(guidance_scale=3.0))
    with pytest.raises(ValueError, match="no guidance"):
        raw.codes([guided])


def test_mixed_requests_are_the_same_for_every_server():
    assert mixed_requests(40, seed=3) == mixed_requests(40, seed=3)
    steps = [request.sampling.steps for request in mixed_requests(2000)]
    assert (min(steps), max(steps)) == (4, 24)
    assert np.mean(steps) == pytest.approx(14, abs=0.5)
    assert request_of(5, seed=1).sampling.guidance_scale == 1.0


def test_poisson_arrivals_keep_their_rate_and_their_spread():
    """The gaps of a Poisson process are exponential: as far from their mean as it is from zero."""
    gaps = np.diff(poisson_arrivals(5000, a_second=4.0))
    assert gaps.mean() == pytest.approx(0.25, rel=0.05)
    assert gaps.std() == pytest.approx(0.25, rel=0.05)
