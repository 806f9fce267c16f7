"""Deadlines: how soon an answer must come to count, by its steps; the same for every server."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from benchmarks.measuring import interleaved
from benchmarks.serving.client import Answer
from benchmarks.serving.raw_model import RawModel
from benchmarks.serving.requests import FEWEST_STEPS, MOST_STEPS, request_of

PATIENCE = 3.0  # times the lone latency


@dataclass(frozen=True)
class Deadlines:
    """`PATIENCE` times what the bare loop takes for one image alone: so much a step, and the rest."""

    step_s: float
    rest_s: float

    @classmethod
    def measure(cls, raw: RawModel, rounds: int) -> Deadlines:
        few, many = (request_of(steps, seed=0) for steps in (FEWEST_STEPS, MOST_STEPS))
        timings = interleaved(
            {"few": partial(raw.images, [few]), "many": partial(raw.images, [many])}, rounds, warmup=1
        )
        step_s = (timings["many"].median_s - timings["few"].median_s) / (MOST_STEPS - FEWEST_STEPS)
        return cls(step_s, timings["few"].median_s - FEWEST_STEPS * step_s)

    def of(self, steps: int) -> float:
        return PATIENCE * (self.rest_s + steps * self.step_s)

    def is_good(self, answer: Answer) -> bool:
        return answer.took_s <= self.of(answer.steps)
