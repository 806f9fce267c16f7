"""Rows: a record a row, and a scratch row that is nobody's."""

import pytest
import torch

from movq_core.config import MASKGIT_PRESETS
from movq_core.params import MAX_STEPS, GuidanceSchedule, MaskSchedule, SamplingParams, UnmaskOrder
from movq_core.sampling.rows import Rows
from movq_core.sampling.schedule import guidance_plan, mask_plan, noise_plan
from movq_core.sampling.step import ALL_CODES

TINY = MASKGIT_PRESETS["tiny"]


@pytest.fixture
def rows():
    return Rows(TINY, 3, torch.device("cpu"))


def test_a_row_holds_what_it_was_started_with(rows):
    params = SamplingParams(
        steps=MAX_STEPS,
        seed=2**53 - 1,
        temperature=0.7,
        guidance_scale=3.3,
        guidance_schedule=GuidanceSchedule.LINEAR,
        mask_schedule=MaskSchedule.ARCCOS,
        order=UnmaskOrder.HALTON,
        top_k=7,
    )
    rows.start(1, 2, params)
    fields = rows.fields
    assert (fields.class_id[1], fields.seed[1], fields.step[1]) == (2, 2**53 - 1, 0)
    assert fields.n_masked[1].tolist() == list(mask_plan(params.mask_schedule, MAX_STEPS, 32))
    assert torch.equal(fields.temperature[1], torch.tensor(0.7))
    assert torch.equal(fields.guidance_scale[1], torch.tensor(guidance_plan(params)))
    assert (fields.top_k[1], fields.halton[1]) == (7, 1)
    assert torch.equal(fields.noise_scale[1], torch.tensor(noise_plan(params)))
    assert (rows.codes[1] == TINY.codebook_size).all()


def test_a_row_of_known_codes_makes_the_others_anew(rows):
    known = torch.arange(32).view(2, 4, 4)
    known[1, 2:] = TINY.codebook_size
    rows.start(1, 2, SamplingParams(steps=3), known)
    assert torch.equal(rows.codes[1], known)
    assert rows.fields.n_masked[1, :3].tolist() == list(mask_plan(MaskSchedule.COSINE, 3, 8))


def test_a_row_started_anew_keeps_nothing_and_touches_no_neighbour(rows):
    for row in range(3):
        rows.start(row, row, SamplingParams(steps=40, seed=row, guidance_scale=5.0, top_k=2, order="halton"))
    before = [field[[0, 2]].clone() for field in rows.fields]
    rows.start(1, None, SamplingParams(steps=2, seed=9))
    assert (rows.fields.top_k[1], rows.fields.halton[1]) == (ALL_CODES, 0)
    assert not rows.fields.guidance_scale[1, 2:].any()
    assert rows.fields.class_id[1] == TINY.num_classes
    assert not rows.fields.n_masked[1, 2:].any()
    assert not rows.fields.noise_scale[1, 2:].any()
    for field, kept in zip(rows.fields, before, strict=True):
        assert torch.equal(field[[0, 2]], kept)


def test_a_step_reads_each_row_where_it_stands(rows):
    early = SamplingParams(steps=5, seed=1, top_k=3)
    late = SamplingParams(
        steps=8, seed=2, mask_schedule="linear", order="halton", guidance_scale=9, guidance_schedule="cosine"
    )
    rows.start(0, 1, early)
    rows.start(2, 1, late)
    for _ in range(3):
        rows.write(torch.tensor([2]), torch.zeros_like(rows.codes[:1]))
    step = rows.step_rows(torch.tensor([2, 0]))
    assert step.step.tolist() == [3, 0]
    assert step.seed.tolist() == [2, 1]
    assert step.n_masked.tolist() == [
        mask_plan(late.mask_schedule, 8, 32)[3],
        mask_plan(early.mask_schedule, 5, 32)[0],
    ]
    assert torch.equal(step.noise_scale, torch.tensor([noise_plan(late)[3], noise_plan(early)[0]]))
    assert step.top_k.tolist() == [ALL_CODES, 3]
    assert step.halton.tolist() == [True, False]
    assert torch.equal(rows.guidance_scale(torch.tensor([2, 0])), torch.tensor([guidance_plan(late)[3], 1.0]))


def test_the_scratch_row_stands_still_however_often_it_is_written(rows):
    nobody = torch.full((4,), rows.scratch)
    for _ in range(MAX_STEPS + 1):
        rows.write(nobody, torch.zeros_like(rows.codes))
    assert rows.step_rows(nobody).step.tolist() == [0, 0, 0, 0]
