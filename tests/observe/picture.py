"""A picture of what the dashboards show, from Prometheus' own answers."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from tests.deploy.test_dashboards import dashboard
from tests.observe.prometheus import Prometheus

PANELS = (
    ("service", "Requests by code"),
    ("service", "Jobs refused"),
    ("queue", "Images that wait"),
    ("queue", "Age of the first"),
    ("worker", "Rows"),
    ("worker", "Step"),
    ("queue", "Recovered jobs"),
    ("queue", "Redis memory"),
)
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
        expression = target["expr"].replace("$__rate_interval", "10s")
        expression = expression.replace("$model", ".*").replace("$instance", ".*")
        for series in asked.over(expression, begun_s):
            at_s = [moment - begun_s for moment, _ in series["values"]]
            values = [float(value) for _, value in series["values"]]
            if max(values) > 0:
                axes.plot(at_s, values, lw=1.2, label=_legend(target["legendFormat"], series["metric"]))
    axes.set_title(f"{name}: {title}", loc="left", fontweight="bold")
    axes.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if axes.lines:
        axes.legend(frameon=False, loc="upper left", ncols=2)


def _legend(pattern: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        pattern = pattern.replace(f"{{{{{name}}}}}", value)
    return pattern
