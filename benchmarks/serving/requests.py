"""Requests that a benchmark asks for: drawn by a seed, so that every server is asked for the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.serving.bundle import CLASSES
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest

Requests = Sequence[GenerateRequest]

EQUAL_STEPS = 12
FEWEST_STEPS, MOST_STEPS = 4, 24


def equal_requests(count: int, seed: int = 0) -> list[GenerateRequest]:
    """All of 12 steps."""
    return [request_of(EQUAL_STEPS, 1000 * seed + place) for place in range(count)]


def mixed_requests(count: int, seed: int = 0) -> list[GenerateRequest]:
    """Of 4 to 24 steps, each number as likely as another."""
    steps = np.random.default_rng(seed).integers(FEWEST_STEPS, MOST_STEPS + 1, count)
    return [request_of(int(number), 1000 * seed + place) for place, number in enumerate(steps)]


def request_of(steps: int, seed: int) -> GenerateRequest:
    return GenerateRequest(class_id=seed % CLASSES, sampling=SamplingParams(steps=steps, seed=seed))


def poisson_arrivals(count: int, a_second: float, seed: int = 0) -> list[float]:
    """Seconds at which `count` requests arrive that know nothing of each other."""
    gaps = np.random.default_rng(seed).exponential(1 / a_second, count)
    return [float(at_s) for at_s in np.cumsum(gaps)]
