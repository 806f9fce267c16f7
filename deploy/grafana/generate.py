"""`python -m deploy.grafana.generate`: writes the dashboards from `panels`; what it wrote is committed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.grafana.panels import DASHBOARDS, Dashboard, Panel

FOLDER = Path(__file__).parent / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "movq-prometheus"}
SCHEMA_VERSION = 39  # of Grafana 11; later ones migrate it as they load it
COLUMNS = 24
SIZES = {"stat": (6, 4), "timeseries": (12, 8)}  # width and height on Grafana's grid


def documents() -> Iterator[tuple[str, str]]:
    """File names, and the text of each."""
    for dashboard in DASHBOARDS:
        yield f"{dashboard.name}.json", json.dumps(document(dashboard), indent=2) + "\n"


def document(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": f"movq-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["movq"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,  # one cross-hair through all panels
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(*dashboard.variable)]},
        "links": [
            {"type": "dashboards", "title": "movq", "tags": ["movq"], "asDropdown": False, "keepTime": True}
        ],
        "annotations": {"list": []},
        "panels": [
            _panel(number, panel, place)
            for number, (panel, place) in enumerate(
                zip(dashboard.panels, _places(dashboard.panels), strict=True), 1
            )
        ],
    }


def _variable(label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,  # when the time range changes, too
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }


def _places(panels: Sequence[Panel]) -> Iterator[dict[str, int]]:
    """From left to right, and in a new line where there is no room."""
    x = y = line_height = 0
    for panel in panels:
        width, height = SIZES[panel.kind]
        if x + width > COLUMNS or (line_height and height != line_height):
            x, y = 0, y + line_height
        yield {"x": x, "y": y, "w": width, "h": height}
        x, line_height = x + width, height


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for index, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"unit": panel.unit, "color": {"mode": "thresholds"}}
    return {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        },
    }


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        calculated = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": calculated, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
