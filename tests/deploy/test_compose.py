"""The compose file, held to what docs/compose.md says; `make compose-trial` tries it with a real engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.server import SHUTDOWN_S
from service.webhooks.settings import WebhookSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ASK_REDIS = ("service", "worker", "retention", "webhooks")
CPU = ["-f", "docker-compose.yml", "-f", "deploy/compose.cpu.yml"]

every_service = pytest.mark.parametrize("name", SERVICES)


def seconds(duration: str) -> int:
    assert re.fullmatch(r"\d+s", duration)
    return int(duration[:-1])


def has_compose() -> bool:
    docker = shutil.which("docker")
    command = ["docker", "compose", "version"]
    return bool(docker) and not subprocess.run(command, capture_output=True, check=False).returncode


def configured(*files: str) -> dict[str, Any]:
    """What `docker compose` makes of the files, all variables at their defaults."""
    command = ["docker", "compose", *files, "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/usr/local/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "level=warn" not in done.stderr
    return dict(json.loads(done.stdout))


@every_service
def test_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] == "10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["pids_limit"]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]


@every_service
def test_starts_again_and_is_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == ("no" if name == "passwords" else "unless-stopped")
    if name not in ("passwords", "webhooks"):  # one ends, the other has no port
        assert service["healthcheck"]["test"]
        assert seconds(service["healthcheck"]["start_period"]) >= 30


@every_service
def test_images_are_pinned(name: str) -> None:
    tag = SERVICES[name]["image"].partition(":")[2].removesuffix("}")
    assert tag
    assert "latest" not in tag
    ours = SERVICES[name]["image"].startswith("movq-")
    assert SERVICES[name].get("pull_policy") == ("never" if ours else None)


@every_service
def test_may_be_scaled(name: str) -> None:
    """No name of its own; and a port only where there is one of its kind, on the loopback unless told."""
    service = SERVICES[name]
    assert "container_name" not in service
    assert all("127.0.0.1" in port for port in service.get("ports", ()))
    assert not (name == "worker" and "ports" in service)


@pytest.mark.parametrize("name", ASK_REDIS)
def test_who_asks_redis_waits_for_it_and_knows_its_password_by_a_file(name: str) -> None:
    service = SERVICES[name]
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert service["environment"]["MOVQ_SECRETS_DIR"] == "/run/secrets"
    assert "passwords:/run/secrets:ro" in service["volumes"]
    assert not any("REDIS" in variable for variable in service["environment"])


def test_redis_is_reached_by_those_alone() -> None:
    assert "ports" not in SERVICES["redis"]
    assert SERVICES["redis"]["networks"] == ["queue"]
    assert COMPOSE["networks"]["queue"]["internal"] is True
    assert {name for name in SERVICES if "queue" in SERVICES[name].get("networks", ())} == {
        "redis",
        *ASK_REDIS,
    }


def test_redis_forgets_nothing() -> None:
    options = dict(
        line.split(maxsplit=1)
        for line in (ROOT / "deploy/redis/redis.conf").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert options["appendonly"] == "yes"
    assert options["appendfsync"] == "everysec"
    assert options["maxmemory-policy"] == "noeviction"
    assert options["include"] == "/run/secrets/redis.conf"
    assert "--maxmemory" in SERVICES["redis"]["command"]


def test_stops_are_longer_than_drains() -> None:
    grace_s = float(SERVICES["worker"]["environment"]["MOVQ_GRACE_S"])
    assert grace_s == WorkerSettings.model_fields["grace_s"].default
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= grace_s + 10
    assert seconds(SERVICES["service"]["stop_grace_period"]) >= SHUTDOWN_S + 5
    attempt_s = WebhookSettings.model_fields["webhook_timeout_s"].default
    assert seconds(SERVICES["webhooks"]["stop_grace_period"]) >= attempt_s + 5


def test_the_files_that_it_mounts_and_bakes_are_there() -> None:
    mounts = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", ()) if isinstance(v, str)]
    assert all((ROOT / path).exists() for path in mounts if path.startswith("./"))
    dockerfile = (ROOT / "Dockerfile.gpu").read_text()
    asked, cut, settings = (ROOT / "pyproject.toml").read_text().partition("\n[project.scripts]\n")
    assert cut, "Dockerfile.gpu cuts pyproject.toml there"
    assert "[project.optional-dependencies]" in asked
    assert "ependencies = [" not in settings
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    assert all((ROOT / path).exists() for line in copied for path in line.split())
    assert dockerfile.count("\nUSER 10001:10001\n") == 2
    assert dockerfile.count("install --no-cache-dir") == dockerfile.count(" install --")


def test_prometheus_asks_services_that_there_are_on_a_network_of_its_own() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    asked = [found for job in prometheus["scrape_configs"] for found in job["dns_sd_configs"]]
    assert {name for found in asked for name in found["names"]} == {"service", "worker", "retention"}
    assert all("scrape" in SERVICES[name]["networks"] for found in asked for name in found["names"])
    datasource = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/movq.yml").read_text())
    assert [source["url"] for source in datasource["datasources"]] == ["http://prometheus:9090"]
    dashboards = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/movq.yml").read_text())
    (folder,) = (provider["options"]["path"] for provider in dashboards["providers"])
    assert f"./deploy/grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]


@pytest.mark.skipif(not has_compose(), reason="no docker compose here")
def test_compose_accepts_it_with_a_gpu_and_without() -> None:
    with_gpu, without = configured()["services"], configured(*CPU)["services"]
    devices = with_gpu["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in devices] == [["gpu"]]
    assert "resources" not in without["worker"].get("deploy", {})
    assert without["worker"]["environment"]["MOVQ_DEVICE"] == "cpu"
    assert [port["host_ip"] for port in with_gpu["service"]["ports"]] == ["127.0.0.1"]
