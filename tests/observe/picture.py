"""A picture of what the dashboards show, from Prometheus' own answers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.deploy.dashboards import asked_by, dashboard
from tests.observe.prometheus import Prometheus

PANELS = (
    ("service", "Requests by code"),
    ("service", "Jobs refused"),
    ("queue", "Images that wait"),
    ("queue", "Age of the first"),
    ("worker", "Rows"),
    ("worker", "Step"),
    ("queue", "Recovered jobs"),
    ("queue", "End to end, p95"),
)
GAP_S = 3.0
UNITS = {"reqps": "a second", "ops": "a second", "s": "seconds", "bytes": "bytes", "short": ""}


def draw(asked: Prometheus, begun_s: float, path: Path) -> None:
    """Eight panels, from `begun_s` on until now."""
    mpl.use("Agg")
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    figure, places = plt.subplots(4, 2, figsize=(11, 10), sharex=True, layout="constrained")
    for (name, title), axes in zip(PANELS, places.flat, strict=True):
        _panel(asked, begun_s, axes, name, title)
    for axes in places[-1]:
        axes.set_xlabel("seconds")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(asked: Prometheus, begun_s: float, axes: Axes, name: str, title: str) -> None:
    (panel,) = [panel for panel in dashboard(name)["panels"] if panel["title"] == title]
    for target in panel["targets"]:
        for series in asked.over(asked_by(target, "10s"), begun_s):
            at_s, values = _line(series["values"], begun_s)
            if any(value > 0 for value in values):
                axes.plot(at_s, values, lw=1.2, label=_legend(target["legendFormat"], series["metric"]))
    axes.set_title(f"{name}: {title}", loc="left", fontweight="bold")
    axes.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.35)  # room for the legend
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(frameon=False, loc="upper left", ncols=3, fontsize=7)


def _line(samples: list[list[Any]], begun_s: float) -> tuple[list[float], list[float]]:
    """Seconds and values; not a number where nothing was told for a while, so that no line is drawn there."""
    drawn = [(moment - begun_s, float(value)) for moment, value in samples]
    gaps = [
        (before + GAP_S, math.nan) for (before, _), (after, _) in pairwise(drawn) if after - before > GAP_S
    ]
    at_s, values = zip(*sorted([*drawn, *gaps]), strict=True)
    return list(at_s), list(values)


def _legend(pattern: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        pattern = pattern.replace(f"{{{{{name}}}}}", value)
    return pattern
