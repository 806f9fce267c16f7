"""Goodput and latency against offered load, past saturation too: `python -m benchmarks.load`

`make up` with the demo bundle; clients in a process of their own, which shares the machine with what it
measures. First a closed loop tells the capacity; then each load is offered for a while by Poisson arrivals.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.table import Table

from benchmarks.load.point import HEADINGS, Point
from benchmarks.load.truth import Told, refusals
from benchmarks.measuring import JsonPath, show, write_json
from benchmarks.serving.client import HTTPTarget
from benchmarks.serving.requests import equal_requests, mixed_requests
from benchmarks.serving.servers import Server, our_service
from benchmarks.serving.visit import visit

LOADS = "0.2,0.4,0.6,0.8,0.9,1,1.2,1.5,2,3"
SATURATING_CLIENTS = 32  # twice the rows
SIZES = [1, 2, 4, 4, 4]  # images of the refusals that are held to their word
STEPS, MANY_STEPS = 12, 48
IDLE_S = 65.0  # longer than a minute


@contextmanager
def bundle_of(model_dir: Path) -> Iterator[Path]:
    """A copy, for what its servers write beside it."""
    with tempfile.TemporaryDirectory(prefix="movq-bundle-") as folder:
        shutil.copytree(model_dir, folder, dirs_exist_ok=True)
        yield Path(folder)


def capacity(server: Server, seconds: float, mixed: bool) -> float:
    """Images a second of a server that never lacks a request."""
    draw = mixed_requests if mixed else equal_requests
    first = visit(server, draw(2 * SATURATING_CLIENTS, seed=1), SATURATING_CLIENTS).images_a_second
    return visit(server, draw(max(1, round(first * seconds)), seed=2), SATURATING_CLIENTS).images_a_second


def load_table(points: list[Point], title: str) -> Table:
    table = Table(*HEADINGS, title=title)
    for point in points:
        table.add_row(*point.row())
    return table


def truth_table(told: dict[str, list[Told]]) -> Table:
    table = Table(
        "before", "images", "told, s", "true, s", "told by true, in whole seconds", title="Retry-After"
    )
    for before, rows in told.items():
        for row in rows:
            table.add_row(before, str(row.images), str(row.told_s), f"{row.true_s:.2f}", f"{row.factor:.2f}")
    return table


def url_of(server: Server) -> str:
    assert isinstance(server.target, HTTPTarget)
    return str(httpx.URL(server.target.url).join("/"))


def main(
    loads: Annotated[str, typer.Option(help="shares of the capacity that are offered, in turn")] = LOADS,
    seconds: Annotated[float, typer.Option(min=1, help="of each load")] = 60.0,
    mixed: Annotated[bool, typer.Option(help="4 to 24 steps instead of 12")] = False,
    queue_images: Annotated[int, typer.Option(min=1, help="MOVQ_MAX_QUEUE_IMAGES")] = 64,
    idle_s: Annotated[float, typer.Option(min=0, help="before a refusal that comes after a rest")] = IDLE_S,
    model: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji-64"),
    json: JsonPath = None,
) -> None:
    """Print and write the curve, and whether refusals are true to their word."""
    with (
        bundle_of(model) as model_dir,
        our_service(model_dir, MOVQ_MAX_QUEUE_IMAGES=str(queue_images), MOVQ_LOG_LEVEL="WARNING") as server,
    ):
        at_most = capacity(server, min(30.0, seconds), mixed)
        url = url_of(server)
        told = {"a rest": asyncio.run(refusals(url, SIZES[-1:], STEPS, idle_s))}
        points = []
        for load in map(float, loads.split(",")):
            points.append(Point.measure(server, at_most, load, seconds, mixed))
            show(load_table(points[-1:], ""))
        told["load"] = asyncio.run(refusals(url, SIZES, STEPS))
        told[f"a change to {MANY_STEPS} steps"] = asyncio.run(refusals(url, SIZES[-2:], MANY_STEPS))
    steps = "4 to 24" if mixed else "12"
    title = f"{seconds:g} s a load, {steps} steps, capacity {at_most:.2f} images/s, queue of {queue_images}"
    show(load_table(points, title), truth_table(told))
    figures = {"capacity": at_most, "queue_images": queue_images, "seconds": seconds, "mixed": mixed}
    write_json(json, "load", {**figures, "points": points, "told": told})


if __name__ == "__main__":
    typer.run(main)
