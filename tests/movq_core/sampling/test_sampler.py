"""Sampler: equal to the naive loop to the bit, in exact batches and in padded and cut ones."""

import random

import pytest
import torch

from movq_core.params import MAX_STEPS, SamplingParams
from movq_core.sampling.batch import bucket_sizes
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.sampler import Sampler
from tests.movq_core.sampling.random_images import random_class, random_known, random_params

ROWS = 6
EXACT, PADDED, FIXED = None, bucket_sizes(2 * ROWS), (8,)
EVERY = pytest.mark.parametrize("buckets", [EXACT, PADDED, FIXED], ids=["exact", "padded", "fixed"])


@pytest.fixture(scope="module")
def prior(sharp_bundle):
    return sharp_bundle.maskgit


def random_image(rng):
    return random_class(rng), random_params(rng), random_known(rng)


def expected_codes(prior, class_id, params, known):
    """The naive loop's (1, 2, 4, 4)."""
    return generate_codes(prior, class_id, params, None if known is None else known[None])


def serve(sampler, images, rng):
    """All `images` through the rows, which are started anew while others run; their codes, in order."""
    waiting, free, running, codes = list(enumerate(images)), list(range(ROWS)), {}, {}
    while waiting or running:
        while waiting and free and rng.random() < 0.7:
            number, (class_id, params, known) = waiting.pop(0)
            row = free.pop(rng.randrange(len(free)))
            sampler.start(row, class_id, params, known)
            running[row] = [number, params.steps, 0]
        rows = rng.sample(sorted(running), len(running))
        if rows:
            sampler.step(rows, [running[row][2] for row in rows])
        for row in rows:
            running[row][2] += 1
        done = [row for row in rows if running[row][1] == running[row][2]]
        for row, its_codes in zip(done, sampler.codes(done) if done else [], strict=True):
            codes[running.pop(row)[0]] = its_codes
            free.append(row)
    return [codes[number] for number in range(len(images))]


@EVERY
@pytest.mark.parametrize("pattern", range(6))
def test_equal_to_the_naive_loop_whatever_the_shape_of_the_batch(prior, buckets, pattern):
    rng = random.Random(pattern)
    images = [random_image(rng) for _ in range(15)]
    served = serve(Sampler(prior, ROWS, buckets), images, rng)
    for codes, image in zip(served, images, strict=True):
        assert torch.equal(codes[None], expected_codes(prior, *image))


@pytest.mark.parametrize("pattern", range(3))
def test_equal_to_the_naive_loop_in_a_cache_of_three_images(prior, pattern, monkeypatch):
    positions = 3 * prior.config.grid_size**2
    monkeypatch.setattr("movq_core.sampling.sampler.CACHED_POSITIONS", positions)
    test_equal_to_the_naive_loop_whatever_the_shape_of_the_batch(prior, EXACT, pattern)


def test_nothing_is_written_when_the_last_of_several_batches_raises(prior, monkeypatch):
    monkeypatch.setattr("movq_core.sampling.sampler.CACHED_POSITIONS", prior.config.grid_size**2)
    sampler = Sampler(prior, ROWS)
    for row in range(3):
        sampler.start(row, row, SamplingParams(steps=4, seed=row))
    sampler.rows.fields.class_id[2] = 10**6  # no such class
    before = sampler.codes([0, 1, 2])
    with pytest.raises(IndexError):
        sampler.step([0, 1, 2], [0, 0, 0])
    assert torch.equal(sampler.codes([0, 1, 2]), before)
    sampler.step([0, 1], [0, 0])  # where they stood
    assert not torch.equal(sampler.codes([0, 1]), before[:2])


@EVERY
def test_the_longest_image_is_one_too(prior, buckets):
    params = SamplingParams(steps=MAX_STEPS, seed=5, guidance_scale=2.0)
    sampler = Sampler(prior, ROWS, buckets)
    sampler.start(3, 1, params)
    for step in range(MAX_STEPS):
        sampler.step([3], [step])
    assert sampler.rows.fields.step[3] == MAX_STEPS
    assert torch.equal(sampler.codes([3]), generate_codes(prior, 1, params))


@EVERY
def test_a_step_writes_the_rows_that_ride_and_no_other(prior, buckets):
    sampler = Sampler(prior, ROWS, buckets)
    for row in range(ROWS):
        sampler.start(row, 1, SamplingParams(steps=4, seed=row, guidance_scale=3.0))
    before = sampler.rows.codes.clone()
    sampler.step([4, 1], [0, 0])
    changed = [row for row in range(ROWS) if not torch.equal(sampler.rows.codes[row], before[row])]
    assert changed == [1, 4]
    assert sampler.rows.fields.step.tolist() == [0, 1, 0, 0, 1, 0, 0]


def test_a_step_that_raises_writes_nothing_and_can_be_taken_by_those_who_can(prior):
    sampler = Sampler(prior, ROWS)
    sampler.start(0, 1, SamplingParams(steps=2, seed=1))
    sampler.start(1, 99, SamplingParams(steps=2, seed=2))  # no such class: the service refuses it long before
    before = sampler.rows.codes.clone()
    with pytest.raises(IndexError):
        sampler.step([0, 1], [0, 0])
    assert torch.equal(sampler.rows.codes, before)
    assert not sampler.rows.fields.step.any()
    for step in range(2):
        sampler.step([0], [step])
    assert torch.equal(sampler.codes([0]), generate_codes(prior, 1, SamplingParams(steps=2, seed=1)))


def test_a_step_out_of_turn_is_our_mistake(prior):
    sampler = Sampler(prior, ROWS)
    sampler.start(0, 1, SamplingParams(steps=2))
    with pytest.raises(AssertionError):
        sampler.step([0], [1])


def test_guidance_is_no_arithmetic_where_nobody_is_guided(prior):
    sampler = Sampler(prior, ROWS)
    sampler.start(0, None, SamplingParams(steps=3, guidance_scale=3.0))  # there is no class to guide to
    sampler.start(1, 1, SamplingParams(steps=3))
    sampler.step([0, 1], [0, 0])
    (batch,) = sampler._batches
    assert batch.entries.shape == (3, 2)
    assert not batch.guided


def test_entries_are_made_again_only_when_somebody_came_or_left(prior):
    sampler = Sampler(prior, ROWS, PADDED)
    for row in range(2):
        sampler.start(row, 1, SamplingParams(steps=4, seed=row))
    sampler.step([0, 1], [0, 0])
    first = sampler._batches
    sampler.step([0, 1], [1, 1])
    assert sampler._batches is first
    sampler.start(1, 1, SamplingParams(steps=4, seed=7, guidance_scale=2.0))  # the same row, and now a twin
    sampler.step([0, 1], [2, 0])
    assert [batch.entries.shape[1] for batch in sampler._batches] == [3]


@EVERY
def test_the_self_check_finds_logits_that_depend_on_the_batch(prior, buckets, monkeypatch):
    sampler = Sampler(prior, ROWS, buckets)
    assert sampler.is_batch_invariant()
    forward = prior.forward

    def depends_on_the_place(codes, class_ids):
        logits = forward(codes, class_ids)
        return logits + torch.arange(len(codes)).view(-1, 1, 1, 1, 1) * 1e-3

    monkeypatch.setattr(prior, "forward", depends_on_the_place)
    assert not sampler.is_batch_invariant()
