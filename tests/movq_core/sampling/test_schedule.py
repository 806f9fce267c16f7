"""Mask plans: integers that fall to zero, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movq_core.params import MAX_STEPS, GuidanceSchedule, MaskSchedule, SamplingParams
from movq_core.sampling.schedule import guidance_plan, mask_plan, mask_ratio


@pytest.mark.parametrize("schedule", MaskSchedule)
def test_ratio_falls_from_one_to_zero(schedule):
    ratios = [mask_ratio(schedule, i / 10) for i in range(11)]
    assert ratios[0] == pytest.approx(1)
    assert ratios[-1] == pytest.approx(0)
    assert ratios == sorted(ratios, reverse=True)


def test_cosine_plan_of_maskgit():
    """floor(256 * cos(pi/2 * t/8)), worked out by hand."""
    assert mask_plan(MaskSchedule.COSINE, 8, 256) == (251, 236, 212, 181, 142, 97, 49, 0)


def test_linear_plan_settles_the_same_number_each_step():
    assert mask_plan(MaskSchedule.LINEAR, 4, 100) == (75, 50, 25, 0)


@pytest.mark.parametrize("schedule", MaskSchedule)
def test_with_nothing_masked_there_is_nothing_to_settle(schedule):
    assert mask_plan(schedule, 5, 0) == (0,) * 5


@given(st.sampled_from(MaskSchedule), st.integers(1, MAX_STEPS), st.integers(1, 1024))
def test_each_step_settles_at_least_one_and_the_last_all(schedule, steps, masked):
    plan = mask_plan(schedule, steps, masked)
    assert len(plan) == steps
    assert plan[-1] == 0
    before = (masked, *plan)
    assert all(later < earlier or later == 1 for earlier, later in zip(before, plan, strict=False))
    assert all(later >= 1 for later in plan[:-1])


def plan_of(schedule, steps, scale):
    return guidance_plan(SamplingParams(steps=steps, guidance_scale=scale, guidance_schedule=schedule))


@given(st.integers(1, MAX_STEPS), st.floats(0.0, 20.0))
def test_constant_guidance_is_the_scale_to_the_bit(steps, scale):
    assert plan_of(GuidanceSchedule.CONSTANT, steps, scale) == (scale,) * steps


@given(st.sampled_from(["linear", "cosine"]), st.integers(1, MAX_STEPS), st.floats(0.0, 20.0))
def test_guidance_goes_from_one_to_the_scale_and_never_back(schedule, steps, scale):
    plan = plan_of(schedule, steps, scale)
    assert len(plan) == steps
    assert plan[-1] == scale
    assert steps == 1 or plan[0] == 1.0
    assert list(plan) == pytest.approx(sorted(plan, reverse=scale < 1.0))


def test_the_growth_of_guidance():
    assert plan_of("linear", 5, 3.0) == (1.0, 1.5, 2.0, 2.5, 3.0)
    # half of 1 - cos(pi * t), worked out by hand: 0, .146, .5, .854, 1
    assert plan_of("cosine", 5, 3.0) == pytest.approx((1.0, 1.2929, 2.0, 2.7071, 3.0), abs=1e-4)
