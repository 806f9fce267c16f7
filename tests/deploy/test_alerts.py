"""Alert rules: each is tested both ways by promtool, and has its section in the runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promtool import PROMETHEUS, needs_promtool, promtool

RUNBOOK = Path(__file__).parents[2] / "docs" / "alerts.md"


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


@needs_promtool
def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_is_quiet_and_fires_as_it_should() -> None:
    promtool("test", "rules", "alerts.test.yml")


@needs_promtool
@pytest.mark.parametrize("was", ["== 0", "> 0.8", "> 30"])
def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path, was: str) -> None:
    text = (PROMETHEUS / "alerts.yml").read_text()
    assert was in text
    (tmp_path / "alerts.yml").write_text(text.replace(was, "> 1e12"))
    (tmp_path / "alerts.test.yml").write_text((PROMETHEUS / "alerts.test.yml").read_text())
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", "alerts.test.yml", folder=tmp_path)


def test_each_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    assert sorted(test["name"] for test in tests) == sorted(rule["alert"] for rule in rules())
    for test in tests:
        expected = [bool(expression["exp_samples"]) for expression in test["promql_expr_test"]]
        assert sorted(expected) == [False, True], test["name"]


def test_each_alert_says_what_to_do() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert f"docs/alerts.md#{rule['alert'].lower()}" in rule["annotations"]["description"]
