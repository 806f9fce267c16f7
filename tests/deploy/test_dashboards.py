"""Dashboards: as Grafana takes them, as their generator makes them, and in Prometheus' language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.generate import DATASOURCE, FOLDER, documents
from tests.deploy.dashboards import NAMES, dashboard, expressions
from tests.deploy.exposition import names_told
from tests.deploy.promtool import needs_promtool, promtool

PROVISIONING = FOLDER.parent / "provisioning"


def test_what_is_committed_is_what_is_generated() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == dict(documents())


@pytest.mark.parametrize("name", NAMES)
def test_grafana_finds_what_it_needs(name: str) -> None:
    document = dashboard(name)
    assert document["uid"] == f"movq-{name}"
    assert document["schemaVersion"] >= 39
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == DATASOURCE
        assert panel["targets"]
        assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    for variable in document["templating"]["list"]:
        assert any(f"${variable['name']}" in expression for expression in _raw(document))


def _raw(document: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in document["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("name", NAMES)
def test_panels_cover_no_other(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells
        taken |= cells


def test_the_data_source_is_the_one_that_they_name() -> None:
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "movq.yml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == (DATASOURCE["type"], DATASOURCE["uid"])
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "movq.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"  # where docker-compose.yml mounts them


def test_panels_ask_for_metrics_that_there_are() -> None:
    asked = set(re.findall(r"\bmovq_\w+", " ".join(expressions())))
    assert asked <= names_told(), asked - names_told()


@needs_promtool
def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", folder=tmp_path)
