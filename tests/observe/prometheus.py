"""A real Prometheus beside a stack: it scrapes each second, and its alerts wait for seconds, not minutes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import free_port
from tests.deploy.promtool import PROMETHEUS
from tests.end_to_end.stack import until

SCRAPE = "1s"


def hastened(rules: str) -> str:
    """The rules, with `for` and the windows of rates shortened; their thresholds stay."""
    rules = re.sub(r"for: \w+", "for: 3s", rules)
    rules = re.sub(r"offset \d+m", "offset 180s", rules)
    rules = re.sub(r"\[5m\]", "[30s]", rules)
    return re.sub(r"\[\d+[mh]\]", "[180s]", rules)  # of what is rare: they look back beyond a freeze


class Prometheus:
    """Its HTTP API, and the file of its targets."""

    def __init__(self, url: str, folder: Path) -> None:
        self._http = httpx.Client(base_url=url, timeout=10)
        self._folder = folder

    def scrape(self, targets: Mapping[str, list[int]]) -> None:
        """From now on these: local ports by job."""
        listed = [
            {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"job": job}}
            for job, ports in targets.items()
        ]
        temporary = self._folder / "targets.part"
        temporary.write_text(json.dumps(listed))
        temporary.replace(self._folder / "targets.json")

    def is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def instant(self, expression: str) -> list[dict[str, Any]]:
        """What the expression gives now."""
        return self._ask("query", query=expression)

    def over(self, expression: str, begun_s: float) -> list[dict[str, Any]]:
        """What it has given each second since then."""
        return self._ask("query_range", query=expression, start=begun_s, end=time.time(), step=1)

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        return {row["metric"]["alertname"] for row in self.instant('ALERTS{alertstate="firing"}')}

    def _ask(self, what: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self._http.get(f"/api/v1/{what}", params=parameters).raise_for_status().json()
        return list(answer["data"]["result"])


@contextmanager
def prometheus(folder: Path) -> Iterator[Prometheus]:
    """Started in `folder`, which holds all that is its."""
    (folder / "alerts.yml").write_text(hastened((PROMETHEUS / "alerts.yml").read_text()))
    scraped = [{"job_name": "movq", "file_sd_configs": [{"files": ["targets.json"]}]}]
    often = {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE}
    configuration = {"global": often, "rule_files": ["alerts.yml"], "scrape_configs": scraped}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    options = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["prometheus", *options], cwd=folder, stdout=log, stderr=log)
    try:
        asked = Prometheus(f"http://127.0.0.1:{port}", folder)
        until(asked.is_ready, 30, "Prometheus is ready")
        yield asked
    finally:
        process.terminate()
        process.wait(30)
