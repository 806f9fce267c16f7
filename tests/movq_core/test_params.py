"""What a caller may choose."""

import pytest
from pydantic import ValidationError

from movq_core.params import MAX_SEED, SamplingParams, derived_seed
from movq_core.protocol import DecodeRequest, GenerateRequest, JobKind, parse_request


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 10_000},
        {"seed": -1},
        {"seed": MAX_SEED + 1},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"guidance_scale": float("inf")},
        {"mask_schedule": "square"},
        {"order": "spiral"},
        {"guidance_schedule": "square"},
        {"top_k": 0},
        {"top_k": 2**16 + 1},
        {"unknown": 1},
    ],
)
def test_out_of_bounds_is_refused_at_birth(bad):
    with pytest.raises(ValidationError):
        SamplingParams(**bad)


def test_seeds_of_a_request_differ_and_stay_in_range():
    for seed in (0, 12, MAX_SEED):
        seeds = [derived_seed(seed, i) for i in range(16)]
        assert seeds[0] == seed
        assert len(set(seeds)) == 16
        assert all(0 <= s <= MAX_SEED for s in seeds)
    assert derived_seed(5, 1) not in {derived_seed(6, i) for i in range(16)}


def test_requests_survive_json():
    request = GenerateRequest(class_id=3, num_images=2, sampling=SamplingParams(steps=9, seed=1))
    assert parse_request(request.model_dump(mode="json")) == request
    assert isinstance(parse_request({"kind": "decode", "codes_key": "k"}), DecodeRequest)
    assert JobKind.GENERATE.function == "movq.generate"


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValidationError):
        parse_request({"kind": "paint"})
