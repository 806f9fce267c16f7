"""The committed dashboards, and what their panels ask of Prometheus."""

from __future__ import annotations

import json
from typing import Any

from deploy.grafana.generate import FOLDER

NAMES = ("gpu", "queue", "service", "worker")


def dashboard(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def asked_by(target: dict[str, Any], interval: str) -> str:
    """A target's expression, with `interval` for Grafana's own variable of time and everything for ours."""
    expression = str(target["expr"]).replace("$__rate_interval", interval)
    return expression.replace("$model", ".*").replace("$instance", ".*")


def expressions() -> list[str]:
    """Those of all panels."""
    return [
        asked_by(target, "1m")
        for name in NAMES
        for panel in dashboard(name)["panels"]
        for target in panel["targets"]
    ]
