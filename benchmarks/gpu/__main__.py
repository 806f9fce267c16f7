"""How near to the card's limit? `python -m benchmarks.gpu` (`make bench-gpu`): under ten minutes on one H100.

Peaks are measured on the same card in the same run. Cases of one table are interleaved; a figure is a median,
and JSON has the spread. Weights are random: speed does not depend on them. `--device cpu` runs all that can
run there with tiny models: it proves the command, and its figures mean nothing.

A peer that is not installed is said to be missing.
"""

from __future__ import annotations

import time
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console

from benchmarks.gpu import tables
from benchmarks.gpu.card import PAPER, TINY, Card, Table
from benchmarks.measuring import JsonPath, write_json
from worker.model_runner import configure_cuda

TABLES = {
    "peaks": tables.peaks,
    "prior": tables.prior,
    "overhead": tables.overhead,
    "sampling": tables.sampling,
    "agreement": tables.agreement,
    "deterministic": tables.deterministic,
    "in-order": tables.in_order,
    "memory": tables.memory,
    "decoders": tables.decoders,  # last: the peer's compiler takes minutes
}


@torch.inference_mode()
def measured(card: Card, name: str) -> Table:
    """The table of this name, printed."""
    started = time.perf_counter()
    table = TABLES[name](card)
    table.seconds = time.perf_counter() - started
    Console().print(table.rich())
    if card.on_cuda:  # the next begins with all the memory
        torch.cuda.empty_cache()
    return table


def main(
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="cpu: tiny models")] = "cuda",
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(TABLES)}; peaks always")] = None,
    json: JsonPath = None,
) -> None:
    """Print and keep every table as soon as it is done."""
    on_cuda = device == "cuda"
    if on_cuda:
        configure_cuda(deterministic=False)
    card = Card(torch.device(device), PAPER if on_cuda else TINY)
    wanted = {"peaks", *(only or TABLES)}
    if unknown := wanted - set(TABLES):
        raise typer.BadParameter(f"there is no table {', '.join(unknown)}")
    done: dict[str, Table] = {}
    for name in TABLES:
        if name in wanted:
            done[name] = measured(card, name)
            write_json(json, "gpu", {"tables": done, "timings": card.timings})


if __name__ == "__main__":
    typer.run(main)
