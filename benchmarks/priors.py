"""A dozen passes over all codes, or a pass a code with a cache? `python -m benchmarks.priors`.

MaskGIT and the autoregressive prior with one trunk and random weights, at batch 1, 4 and 16, the cases in
turn. Both forms of an image of 16x16 positions: four codes a position (1024 passes in order) and one code a
position (256 passes), which is what four heads a pass would cost, but for the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import JsonPath, Timing, interleaved, write_json
from movq_core.config import AutoregressiveConfig, MaskGITConfig
from movq_core.models.autoregressive import Autoregressive
from movq_core.models.maskgit import MaskGIT
from movq_core.params import SamplingParams
from movq_core.sampling.autoregressive import generate_in_order
from movq_core.sampling.sampler import Sampler

STEPS = 12  # the paper's
FORMS = {"1024 codes, one by one": 4, "256 positions, one by one": 1}  # code channels
MASKED, IN_ORDER = "MaskGIT", "autoregressive"


def masked_case(config: MaskGITConfig, batch: int) -> Callable[[], object]:
    """All steps of `batch` images at once."""
    sampler = Sampler(MaskGIT(config).eval(), batch)
    rows = list(range(batch))

    def generate() -> None:
        for row in rows:
            sampler.start(row, None, SamplingParams(steps=STEPS, seed=row))
        for step in range(STEPS):
            sampler.step(rows, [step] * batch)

    return generate


def in_order_case(config: AutoregressiveConfig, batch: int) -> Callable[[], object]:
    """All codes of `batch` images, one after another."""
    prior = Autoregressive(config).eval()
    classes = torch.full((batch,), prior.null_class)
    return partial(generate_in_order, prior, classes, torch.arange(batch))


def compare(trunk: dict[str, int], batches: Iterable[int], rounds: int) -> dict[str, dict[str, Timing]]:
    """Timings of both priors by form and batch."""
    results = {}
    for form, channels in FORMS.items():
        shape = {
            **trunk,
            "code_channels": channels,
            "codebook_size": 1024,
            "grid_size": 16,
            "num_classes": 10,
        }
        for batch in batches:
            cases = {
                MASKED: masked_case(MaskGITConfig(**shape), batch),
                IN_ORDER: in_order_case(AutoregressiveConfig(**shape), batch),
            }
            results[f"{form}, batch {batch}"] = interleaved(cases, rounds, warmup=1)
    return results


def table_of(results: dict[str, dict[str, Timing]], trunk: dict[str, int]) -> Table:
    """A line a form and batch: images a second of each, and the ratio."""
    title = f"{trunk['depth']} x {trunk['width']}, {STEPS} steps, {torch.get_num_threads()} threads"
    table = Table("", f"{MASKED}, s a batch", f"{IN_ORDER}, s a batch", f"{MASKED} is faster by", title=title)
    for name, timings in results.items():
        masked, in_order = timings[MASKED], timings[IN_ORDER]
        seconds = (f"{t.median_s:.3g} ({t.low_s:.3g} to {t.high_s:.3g})" for t in (masked, in_order))
        table.add_row(name, *seconds, f"{in_order.ratio_to(masked):.2f}x")
    return table


def main(
    depth: Annotated[int, typer.Option(min=1)] = 8,
    width: Annotated[int, typer.Option(min=32)] = 256,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    json: JsonPath = None,
) -> None:
    """Print the table."""
    trunk = {"depth": depth, "width": width, "heads": width // 32}
    torch.manual_seed(0)
    with torch.inference_mode():
        results = compare(trunk, (1, 4, 16), rounds)
    Console(width=130).print(table_of(results, trunk))
    write_json(json, "priors", {"trunk": trunk, "steps": STEPS, "timings": results})


if __name__ == "__main__":
    typer.run(main)
