"""How many codes stay masked after each step, its noise and its guidance: computed once a row, on the host.

The plan holds integers, so no rounding of a device's cosine can ever move a code.
"""

from __future__ import annotations

import math

from movq_core.params import GuidanceSchedule, MaskSchedule, SamplingParams


def mask_ratio(schedule: MaskSchedule, progress: float) -> float:
    """Share of codes still masked at `progress` (0 to 1): 1 at the start, 0 at the end.

    cosine: Chang et al. 2022. arccos: Besnier and Chen 2023. linear: the same number a step.
    """
    match schedule:
        case MaskSchedule.COSINE:
            return math.cos(progress * math.pi / 2)
        case MaskSchedule.ARCCOS:
            return math.acos(progress) / (math.pi / 2)
        case MaskSchedule.LINEAR:
            return 1.0 - progress


def mask_plan(schedule: MaskSchedule, steps: int, masked: int) -> tuple[int, ...]:
    """Codes masked after each of `steps` steps, of `masked` at the start; the last is 0.

    `floor(masked * ratio)`, clamped to [1, masked before - 1] (maskgit's `parallel_decode.py`): each step
    settles at least one code and leaves at least one. With more steps than codes, the last one is drawn
    again until the last step. With nothing masked there is nothing to settle: zeros.
    """
    plan: list[int] = []
    before = masked
    for step in range(1, steps):
        wanted = math.floor(masked * mask_ratio(schedule, step / steps))
        before = max(min(1, masked), min(wanted, before - 1))
        plan.append(before)
    return (*plan, 0)


def noise_plan(params: SamplingParams) -> tuple[float, ...]:
    """Weight of the noise on the confidence at each step: fades to 0 as codes settle."""
    # (step + 1) / steps is the progress after this step.
    return tuple(
        params.choice_temperature * (1.0 - (step + 1) / params.steps) for step in range(params.steps)
    )


def guidance_plan(params: SamplingParams) -> tuple[float, ...]:
    """The guidance scale of each step, `guidance_scale` at the last: all along, or from 1 at the first."""
    before_last = params.steps - 1
    progress = (*(step / before_last for step in range(before_last)), 1.0)
    growth = (guidance_growth(params.guidance_schedule, p) for p in progress)
    return tuple((1.0 - grown) + grown * params.guidance_scale for grown in growth)


def guidance_growth(schedule: GuidanceSchedule, progress: float) -> float:
    """Share of the way from no guidance to all of it, at `progress` (0 to 1).

    linear: Chang et al. 2023 (Muse). cosine: Gao et al. 2023 (MDT), of power 1.
    """
    match schedule:
        case GuidanceSchedule.CONSTANT:
            return 1.0
        case GuidanceSchedule.LINEAR:
            return progress
        case GuidanceSchedule.COSINE:
            return (1.0 - math.cos(progress * math.pi)) / 2
