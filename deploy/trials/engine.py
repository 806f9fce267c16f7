"""Compose: Docker's engine by its own command line, with a project name and ports of the trial's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

PROJECT = "movq-trial"
PORTS = {"PORT": "18000", "PROMETHEUS_PORT": "19090", "GRAFANA_PORT": "13000"}
SHARE = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 2))}  # of a worker, of two
PARTS = ("redis", "service", "worker", "retention", "prometheus")


class Compose:
    """The engine, by its own command line."""

    def __init__(self, files: Sequence[str]) -> None:
        options = [part for name in files for part in ("-f", name)]
        self._command = ["docker", "compose", "-p", PROJECT, *options]

    def __call__(self, *arguments: str, told: str | None = None) -> str:
        """What `docker compose ...` writes to its standard output; raises CalledProcessError."""
        return run(*self._command, *arguments, told=told)

    def containers(self, service: str) -> list[str]:
        """Ids of those that run."""
        return self("ps", "-q", service).split()

    def python(self, container: str, code: str) -> str:
        """Run a line of Python in one of our containers."""
        return run("docker", "exec", container, "python", "-c", code)

    def redis(self, commands: Sequence[str]) -> list[str]:
        """Ask Redis, with the password; an answer a command."""
        line = "REDISCLI_AUTH=$(cat /run/secrets/redis) redis-cli"
        return self("exec", "-T", "redis", "sh", "-c", line, told="\n".join(commands)).split("\n")[:-1]

    def up(self, *arguments: str) -> float:
        """Seconds until all are healthy."""
        begun_s = time.monotonic()
        self("up", "-d", "--no-build", "--wait", *arguments, *PARTS)
        return time.monotonic() - begun_s


def run(*command: str, told: str | None = None) -> str:
    """Output of a command; raises CalledProcessError."""
    environment = {**os.environ, **PORTS, **SHARE}
    done = subprocess.run(command, env=environment, input=told, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        sys.stderr.write(f"{done.stdout}\n{done.stderr}\n")
        done.check_returncode()
    return done.stdout


def inspect(container: str) -> dict[str, Any]:
    """What the engine knows of a container."""
    return dict(json.loads(run("docker", "inspect", container))[0])


def ended_at(container: str) -> datetime:
    """When it ended, to the millisecond."""
    return datetime.fromisoformat(inspect(container)["State"]["FinishedAt"][:23] + "+00:00")


def size_of(image: str) -> int:
    """Bytes of an image and all below it."""
    return int(run("docker", "image", "inspect", "--format", "{{.Size}}", image))
