"""One step of unmasking against diffusers' `AmusedScheduler.step`: `python -m benchmarks.sampler`.

Images of 16x16x4 codes of 1024, so 1024 entries a row, the cases in turn. The scheduler knows rows of one
channel; it gets them once one after another, and once as one row of all entries, which is our very task.
Printed are milliseconds a channel of the whole batch's step, and what share of the faster peer's ours are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Annotated

import torch
import typer
from diffusers import AmusedScheduler
from rich.table import Table
from torch import Tensor

from benchmarks.measuring import JsonPath, Timing, interleaved, show, versions, write_json
from movq_core.params import MaskSchedule, SamplingParams
from movq_core.sampling.schedule import mask_plan, noise_plan
from movq_core.sampling.step import ALL_CODES, StepRows, unmask_step

CHANNELS, SIDE, CODES, STEPS = 4, 16, 1024, 12
ENTRIES = CHANNELS * SIDE**2
DEVIATIONS = {"soft": 1.0, "peaked": 8.0}  # of normal logits: 9.3 and 1.2 bits a code, of at most 10
MOMENTS = {"first": 0, "late": 10}  # the steps, counted from 0
OURS, PEER, PEER_AT_ONCE = "movq", "diffusers, a channel at a time", "diffusers, all at once"


@dataclass(frozen=True)
class Situation:
    """What is to be sampled: `batch` images at step `moment`, with logits of normal `deviation`."""

    batch: int
    deviation: float
    moment: int

    @property
    def plan(self) -> tuple[int, ...]:
        """Entries masked after each step."""
        return mask_plan(MaskSchedule.COSINE, STEPS, ENTRIES)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Logits (B, entries, codes) and codes (B, entries), of which as many are masked as at that step."""
        generator = torch.Generator().manual_seed(self.moment)
        logits = self.deviation * torch.randn(self.batch, ENTRIES, CODES, generator=generator)
        order = torch.rand(self.batch, ENTRIES, generator=generator).argsort(dim=1)
        before = (ENTRIES, *self.plan)[self.moment]
        return logits, torch.where(order < before, CODES, 7)


def our_case(situation: Situation, logits: Tensor, codes: Tensor) -> Callable[[], Tensor]:
    """`unmask_step` of all channels."""
    size, moment = situation.batch, situation.moment
    rows = StepRows(
        seed=torch.arange(size),
        step=torch.full((size,), moment),
        n_masked=torch.full((size,), situation.plan[moment]),
        temperature=torch.full((size,), 0.9),
        noise_scale=torch.full((size,), noise_plan(SamplingParams(steps=STEPS))[moment]),
        top_k=torch.full((size,), ALL_CODES),
        halton=torch.zeros(size, dtype=torch.bool),
    )
    shape = (size, CHANNELS, SIDE, SIDE)
    return partial(unmask_step, logits.view(*shape, CODES), codes.view(shape), CODES, rows)


def peer_case(situation: Situation, logits: Tensor, codes: Tensor, calls: int) -> Callable[[], object]:
    """The scheduler's step, of all entries in `calls` equal parts."""
    scheduler = AmusedScheduler(mask_token_id=CODES)
    scheduler.set_timesteps(STEPS)
    timestep = STEPS - 1 - situation.moment
    parts = [
        (own_logits.contiguous(), timestep, own_codes.contiguous())
        for own_logits, own_codes in zip(logits.chunk(calls, 1), codes.chunk(calls, 1), strict=True)
    ]
    return lambda: [scheduler.step(*part) for part in parts]


def measure(situation: Situation, rounds: int) -> dict[str, Timing]:
    """Seconds of each way to take the step."""
    tensors = situation.tensors()
    cases = {
        OURS: our_case(situation, *tensors),
        PEER: peer_case(situation, *tensors, calls=CHANNELS),
        PEER_AT_ONCE: peer_case(situation, *tensors, calls=1),
    }
    return interleaved(cases, rounds)


def share(timings: dict[str, Timing]) -> float:
    """Our time by that of the faster peer, the median over the rounds."""
    faster = min((timings[PEER], timings[PEER_AT_ONCE]), key=lambda timing: timing.median_s)
    return timings[OURS].ratio_to(faster)


def milliseconds(timing: Timing) -> str:
    """A channel's median and quartiles."""
    median, low, high = (1e3 * s / CHANNELS for s in (timing.median_s, timing.low_s, timing.high_s))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def main(rounds: Annotated[int, typer.Option(min=1)] = 15, json: JsonPath = None) -> None:
    """Print the table: with one thread, and with as many as torch takes by itself."""
    columns = (
        "threads",
        "batch",
        "logits",
        "step",
        *(f"{n}, ms" for n in (OURS, PEER, PEER_AT_ONCE)),
        "share",
    )
    table = Table(*columns, title=f"One step, a channel; {versions(['diffusers'])}")
    results = {}
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        for batch, kind, step in product((1, 8), DEVIATIONS, MOMENTS):
            timings = measure(Situation(batch, DEVIATIONS[kind], MOMENTS[step]), rounds)
            its_share = share(timings)
            results[f"{threads} threads, batch {batch}, {kind}, {step}"] = {**timings, "share": its_share}
            cells = (milliseconds(timing) for timing in timings.values())
            table.add_row(str(threads), str(batch), kind, step, *cells, f"{its_share:.3f}")
    show(table)
    write_json(json, "sampler", results)


if __name__ == "__main__":
    typer.run(main)
