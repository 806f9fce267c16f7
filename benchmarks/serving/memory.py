"""A worker's memory by its rows: `python -m benchmarks.serving.memory`

A process for each number of rows, with runner and engine as in a worker; all rows are run at once.
"""

from __future__ import annotations

import json as json_text
import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.measuring import JsonPath, show, write_json
from benchmarks.serving.bundle import served_bundle
from benchmarks.serving.engine import running_engine, through_engine
from benchmarks.serving.requests import request_of

ROWS = (1, 4, 16, 64)
STEPS = 2


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def figures_of(model_dir: Path, rows: int) -> dict[str, float]:
    """MiB of this process at its peak: when ready, and after a full house. And of the card, where one is."""
    with running_engine(model_dir, rows) as engine:
        figures = {"ready_mib": peak_mib()}
        through_engine(engine, [request_of(STEPS, seed) for seed in range(2 * rows)])
    figures["full_mib"] = peak_mib()
    if torch.cuda.is_available():
        figures["cuda_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return figures


def figures_elsewhere(model_dir: Path, rows: int) -> dict[str, float]:
    """In a process of its own: a peak is for life."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving.memory",
        "--rows",
        str(rows),
        "--model",
        str(model_dir),
    ]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603 - ours
    figures: dict[str, float] = json_text.loads(output)
    return figures


def memory_table(by_rows: dict[int, dict[str, float]]) -> Table:
    table = Table("rows", *next(iter(by_rows.values())), "MiB a row", title="peak memory of a worker")
    (fewest, least), *_ = by_rows.items()
    for rows, figures in by_rows.items():
        a_row = (figures["full_mib"] - least["full_mib"]) / (rows - fewest) if rows > fewest else None
        cells = [f"{value:.0f}" for value in figures.values()]
        table.add_row(str(rows), *cells, "" if a_row is None else f"{a_row:.1f}")
    return table


def main(
    rows: Annotated[int, typer.Option(min=0, help="of one worker, in this process; 0: of each, in turn")] = 0,
    model: Annotated[Path | None, typer.Option(help="the bundle's folder, with --rows")] = None,
    json: JsonPath = None,
) -> None:
    """Print and write the peaks."""
    if rows and model:
        print(json_text.dumps(figures_of(model, rows)))
        return
    with served_bundle() as model_dir:
        by_rows = {count: figures_elsewhere(model_dir, count) for count in ROWS}
    show(memory_table(by_rows))
    results: dict[str, Any] = {str(count): figures for count, figures in by_rows.items()}
    write_json(json, "memory", results)


if __name__ == "__main__":
    typer.run(main)
