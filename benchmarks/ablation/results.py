"""Result: the figures of one trained run, kept as JSON so that a cut benchmark goes on where it was."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.table import Table


class Result(BaseModel):
    """`figures`: name to number, of one variant trained with one seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    seed: int
    steps: int
    figures: dict[str, float]


def once(path: Path, run: Callable[[], Result]) -> Result:
    """The result in `path`, or that of `run`, written there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(run().model_dump_json(indent=2) + "\n", encoding="utf-8")
    return Result.model_validate_json(path.read_text(encoding="utf-8"))


def summarise(results: list[Result], columns: dict[str, str], title: str) -> Table:
    """One line a variant: mean and standard deviation over its seeds of each figure in `columns`.

    `columns`: the figure's name to how it is written, a format of one number.
    """
    table = Table("variant", "seeds", *(name.replace("_", " ") for name in columns), title=title)
    for variant in dict.fromkeys(result.name for result in results):
        runs = [result.figures for result in results if result.name == variant]
        cells = [_cell([run[name] for run in runs], form) for name, form in columns.items()]
        table.add_row(variant, str(len(runs)), *cells)
    return table


def _cell(values: list[float], form: str) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = form.format(statistics.fmean(values))
    return f"{mean} ±{form.format(spread)}" if spread else mean
