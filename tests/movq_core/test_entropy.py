"""Entropy coding: lossless, as short as the prior allows, the same on another machine, and safe."""

import math
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from movq_core.bundle import ModelBundle
from movq_core.entropy import (
    _WEIGHTS,
    EntropyCoder,
    blocks,
    coding_order,
    group_bounds,
    halton_positions,
)
from movq_core.errors import InvalidMovqFile
from movq_core.movq_file import packed_bytes
from movq_core.params import SamplingParams
from movq_core.sampling.generate import generate_codes
from worker.fakes import TINY

K = TINY.movq.codebook_size


@pytest.fixture(scope="module")
def coder(sharp_bundle):
    return EntropyCoder(sharp_bundle.maskgit)


@pytest.fixture(scope="module")
def fresh():
    """Nearly flat probabilities."""
    return EntropyCoder(ModelBundle.random(TINY).maskgit)


def some_codes(shape, seed=0):
    return np.random.default_rng(seed).integers(0, K, shape)


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    class_id=st.sampled_from([None, 0, 2]),
    groups=st.sampled_from([1, 3, 8]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_codes_of_any_size_come_back(coder, size, class_id, groups, seed):
    codes = some_codes((2, *size), seed)
    payload = coder.encode(codes, class_id, groups)
    assert np.array_equal(coder.decode(payload, codes.shape, class_id, groups), codes)


def test_flat_probabilities_cost_what_packing_costs(fresh):
    codes = some_codes((2, 16, 16))
    assert abs(len(fresh.encode(codes)) / packed_bytes(codes.shape, K) - 1) < 0.03


def test_the_length_is_the_priors_own(coder, sharp_bundle):
    """What the prior makes it also expects: its samples cost the sum of their -log2 p and a word or two."""
    prior = sharp_bundle.maskgit
    sample = generate_codes(prior, 1, SamplingParams(seed=3, steps=8))[0]
    masked = torch.full_like(sample, prior.mask_code)[None]
    with torch.inference_mode():
        log_p = prior(masked, torch.tensor([1]))[0].log_softmax(-1)
    ideal_bits = -log_p.gather(-1, sample[..., None]).sum().item() / math.log(2)
    coded_bits = 8 * len(coder.encode(sample.numpy(), 1, groups=1))
    assert ideal_bits - 16 < coded_bits < 1.02 * ideal_bits + 64


def test_absent_entries_cost_nothing(fresh):
    """A grid with one row over the edge is one row dearer, not a block."""
    whole, more = some_codes((2, 4, 4)), some_codes((2, 5, 4))
    assert len(fresh.encode(more)) - len(fresh.encode(whole)) <= packed_bytes((2, 1, 4), K) + 4


def test_another_class_gives_other_codes(coder):
    codes = some_codes((2, 4, 4))
    assert not np.array_equal(coder.decode(coder.encode(codes, 0), codes.shape, 1), codes)


def test_another_machines_last_digits_change_nothing(coder, sharp_bundle):
    """Two machines' kernels differ by 1e-14; a coder whose weights differ by as much reads the same bytes."""
    other = EntropyCoder(sharp_bundle.maskgit)
    generator = torch.Generator().manual_seed(0)
    for parameter in other._prior.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.mul_(1.0 + 1e-14 * noise)
    codes = some_codes((2, 8, 8))
    payload = coder.encode(codes)
    assert other.encode(codes) == payload
    assert np.array_equal(other.decode(payload, codes.shape), codes)


@given(payload=st.binary(max_size=64))
@settings(max_examples=60, deadline=None)
def test_hostile_bytes_give_codes_or_the_declared_error(coder, payload):
    try:
        codes = coder.decode(payload, (2, 4, 5), None, 2)
    except InvalidMovqFile:
        return
    assert codes.min() >= 0
    assert codes.max() < K


def test_the_order_reaches_every_entry_once():
    for channels, side in [(1, 1), (2, 4), (4, 8), (3, 5), (4, 16)]:
        order = coding_order(channels, side)
        assert sorted(order) == list(range(channels * side * side))
        # each run of `channels` entries has every channel, and no position twice
        turns = order.reshape(-1, channels)
        assert (turns // side**2 == np.arange(channels)).all()
        assert all(len(set(turn)) == channels for turn in turns % side**2) or side == 1


def test_groups_grow_and_cover():
    assert group_bounds(256, 8) == [0, 4, 16, 36, 64, 100, 144, 196, 256]
    assert group_bounds(3, 64) == [0, 1, 2, 3]
    assert group_bounds(5, 1) == [0, 5]


def test_blocks_cover_the_grid_once():
    seen = np.zeros((2, 9, 13), int)
    for block in blocks(seen.shape, 4):
        seen[block] += 1
    assert (seen == 1).all()


def test_what_files_rest_on_stays():
    """Order and weights are part of the format: a change makes every written file unreadable."""
    assert halton_positions(4)[:6].tolist() == [9, 6, 12, 1, 11, 4]
    assert zlib.crc32(coding_order(4, 8).astype("<u2").tobytes()) == 1869389403
    assert zlib.crc32(_WEIGHTS.astype("<u4").tobytes()) == 2640980478
    assert np.array_equal(_WEIGHTS, _WEIGHTS.round())
    assert (_WEIGHTS[0], _WEIGHTS[-1]) == (2**20, 1)
