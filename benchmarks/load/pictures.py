"""The curve and the soak, drawn: `python -m benchmarks.load.pictures load FIGURES.json PICTURE.png`

`... soak FOLDER PICTURE.png` draws what `benchmarks.load.soak` has written so far.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import typer
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from benchmarks.load.soak import Sample, read

INK, SOFT, WARM = "#1f3a5f", "#7a9cc6", "#c8553d"
SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10)
app = typer.Typer()


@app.command()
def load(figures: Path, picture: Path) -> None:
    """Goodput and refusals, and latency, against what was offered."""
    document: Any = json.loads(figures.read_text(encoding="utf-8"))
    results = document["results"]
    points: list[dict[str, float]] = sorted(results["points"], key=lambda point: point["offered"])
    offered = [point["offered"] for point in points]
    figure, (rates, latencies) = plt.subplots(1, 2, figsize=(10, 4))
    rates.plot(offered, offered, ":", color=SOFT, label="offered")
    rates.plot(offered, [point["goodput"] for point in points], "o-", color=INK, label="goodput")
    rates.plot(offered, [point["refused"] for point in points], "s--", color=WARM, label="refused, 429")
    rates.axvline(results["capacity"], color=SOFT, linewidth=0.8)
    rates.set(ylabel="images a second")
    for name, style in (("p50_s", "o-"), ("p95_s", "s--"), ("p99_s", "^:")):
        latencies.plot(offered, [point[name] for point in points], style, color=INK, label=name[:3])
    latencies.set(ylabel="latency from the planned arrival, s", yscale="log", yticks=SECONDS)
    latencies.yaxis.set_major_formatter("{x:g}")
    latencies.yaxis.set_minor_locator(NullLocator())
    for axes in (rates, latencies):
        axes.set(xlabel="offered images a second")
        _tidy(axes)
    _save(figure, picture)


@app.command()
def soak(folder: Path, picture: Path) -> None:
    """What could have grown, over time."""
    samples = read(folder)
    minutes = [(sample["time, s"] - samples[0]["time, s"]) / 60 for sample in samples]
    panels = (
        ("resident memory, MiB", [name for name in samples[0] if name.endswith("RSS, MiB")]),
        ("file handles", [name for name in samples[0] if name.endswith("file handles")]),
        ("keys and blobs", ["Redis: keys", "blobs"]),
        ("Redis' memory and AOF, blobs, MiB", ["Redis: memory, MiB", "Redis: AOF, MiB", "blobs, MiB"]),
    )
    figure, grid = plt.subplots(2, 2, figsize=(10, 7))
    for axes, (title, names) in zip(grid.flat, panels, strict=True):
        _draw(axes, title, names, minutes, samples)
    _save(figure, picture)


def _draw(
    axes: Axes, title: str, names: Sequence[str], minutes: Sequence[float], samples: Sequence[Sample]
) -> None:
    for name in names:
        axes.plot(
            minutes,
            [sample[name] for sample in samples],
            linewidth=1.2,
            label=name.removesuffix(": RSS, MiB").removesuffix(": file handles"),
        )
    axes.set(title=title, xlabel="minutes", ylim=(0, None))
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _save(figure: Any, picture: Path) -> None:
    figure.tight_layout()
    figure.savefig(picture, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    mpl.use("Agg")
    app()
