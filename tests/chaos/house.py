"""House: Redis, workers and a service as real processes, and a keeper who restarts what dies."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from redis import Redis, RedisError

from deploy.parts import redis_command
from movq_core.protocol import Priority, queue_name
from tests.chaos.proxy import Proxy

MODEL = "tiny"
QUEUES = [queue_name(MODEL, priority) for priority in Priority]
LEASE_S = 4
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
KEEPER_LOOKS_S = 0.1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Seconds until `true()`; raises AssertionError after `timeout_s`."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() - begun_s < timeout_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begun_s


@dataclass(frozen=True)
class Plan:
    """What a house is like. `disks`: small tmpfs instead of plain folders, by MiB: `blobs`, `redis`."""

    workers: int = 2
    services: int = 1
    worker_env: Mapping[str, str] = field(default_factory=dict)
    cursed: bool = False  # the workers' devices may be cursed, see cursed_worker.py
    clock: str = ""  # whose can be set: `worker0`, `redis`
    fsync: str = "everysec"
    retries: int = 2  # a job's; the service's default
    disks: Mapping[str, int] = field(default_factory=dict)
    redis_binary: str | None = None  # instead of the launcher's
    device: str = "cpu"  # `cuda`: in deterministic mode, for results are compared to the byte


class Resident:
    """One process of the house, and whether it is to run; the keeper starts it again when it dies."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.env = dict(env)
        self.log_path = folder / f"{name}.log"
        self.starts = 0
        self._command = list(command)
        self._wanted = False
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """It is to run from now on."""
        with self._lock:
            self._wanted = True
            self._spawn()

    def keep(self) -> None:
        """Start it if it has died and is to run."""
        with self._lock:
            if self._wanted and not self.is_running():
                self._spawn()

    def _spawn(self) -> None:
        if self.is_running():
            return
        self.starts += 1
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self._command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, number: signal.Signals) -> None:
        if self.is_running():
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9; it starts again if it is to run."""
        self.signal(signal.SIGKILL)

    def take_down(self) -> None:
        """kill -9, and it stays away until `start()`."""
        with self._lock:
            self._wanted = False
            self.kill()
            if self._child is not None:
                self._child.wait()

    def leave(self, timeout_s: float) -> int:
        """SIGTERM, wait, and stay away; its exit code."""
        with self._lock:
            self._wanted = False
            assert self._child is not None
            self.signal(signal.SIGTERM)
            return self._child.wait(timeout_s)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class House:
    """Everything runs once `open()` has returned; `close()` leaves no process and no mount.

    Each worker reaches Redis through a proxy of its own, and so does the service; whoever looks at Redis for
    the tests does so past all of them.
    """

    def __init__(self, folder: Path, bundle: Path, plan: Plan | None = None) -> None:
        self.folder, self.bundle, self.plan = folder, bundle, plan or Plan()
        self.blobs = folder / "blobs"
        self.redis_dir = folder / "redis"
        self.curse_path = folder / "curse"
        self.clock_path = folder / "clock"
        self._mounts: list[Path] = []
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="chaos-keeper", daemon=True)

    # -- life -----------------------------------------------------------------------------------

    def open(self) -> None:
        for place in (self.folder, self.blobs, self.redis_dir):
            place.mkdir(parents=True, exist_ok=True)
        for name, size_mib in self.plan.disks.items():
            self._mount_small(self.folder / name, size_mib)
        self.set_clock("+0")
        self.socket_path = self.folder / "redis.sock"
        command = [*redis_command(self.socket_path, self.redis_dir), "--appendfsync", self.plan.fsync]
        command[0] = self.plan.redis_binary or command[0]
        self.redis = Resident("redis", command, self._env(**self._clock_of("redis")), self.folder)
        self.redis.start()
        self.client = Redis(unix_socket_path=str(self.socket_path), socket_timeout=10)
        self.wait_for_redis()
        self.proxies = [Proxy(self.socket_path) for _ in range(self.plan.workers + self.plan.services)]
        self.workers = [self._worker(index) for index in range(self.plan.workers)]
        self.services = [self._service(index) for index in range(self.plan.services)]
        self._doors = cycle(self.services)
        for resident in (*self.workers, *self.services):
            resident.start()
        self._keeper.start()
        self.wait_until_ready()

    def close(self) -> None:
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for resident in self.residents:
            resident.signal(signal.SIGCONT)
            resident.take_down()
        for proxy in getattr(self, "proxies", []):
            proxy.close()
        if hasattr(self, "client"):
            self.client.close()
        for mount in self._mounts:
            subprocess.run(["umount", "-l", str(mount)], check=True)
        self._mounts.clear()

    @property
    def residents(self) -> list[Resident]:
        redis = [self.redis] if hasattr(self, "redis") else []
        return [*getattr(self, "workers", []), *getattr(self, "services", []), *redis]

    def _keep(self) -> None:
        while not self._closing.wait(KEEPER_LOOKS_S):
            for resident in self.residents:
                resident.keep()

    def _mount_small(self, place: Path, size_mib: int) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(place)], check=True)
        self._mounts.append(place)

    # -- who lives here -------------------------------------------------------------------------

    def _env(self, **more: str) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "MOVQ_BLOBS_URL": str(self.blobs), **more}

    def _clock_of(self, name: str) -> dict[str, str]:
        if self.plan.clock != name:
            return {}
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock_path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as a kernel's clock is set
        }

    def _worker(self, index: int) -> Resident:
        env = self._env(
            MOVQ_REDIS_URL=f"redis://127.0.0.1:{self.proxies[index].port}/0",
            MOVQ_MODEL_DIR=str(self.bundle),
            MOVQ_CACHE_DIR=str(self.bundle.parent / "cache"),
            MOVQ_LEASE_S=str(LEASE_S),
            MOVQ_RENEW_S="1",
            MOVQ_ROWS="4",
            MOVQ_DEVICE=self.plan.device,
            MOVQ_DETERMINISTIC=str(self.plan.device == "cuda"),
            MOVQ_METRICS_PORT=str(free_port()),
            CHAOS_CURSE=str(self.curse_path),
            **self._clock_of(f"worker{index}"),
            **self.plan.worker_env,
        )
        module = "tests.chaos.cursed_worker" if self.plan.cursed else "worker"
        return Resident(f"worker{index}", [sys.executable, "-m", module], env, self.folder)

    def _service(self, index: int) -> Resident:
        env = self._env(
            MOVQ_REDIS_URL=f"redis://127.0.0.1:{self.proxies[self.plan.workers + index].port}/0",
            MOVQ_MODELS=str(self.bundle),
            MOVQ_MAX_QUEUE_IMAGES="1000",
            MOVQ_MAX_RETRIES=str(self.plan.retries),
            MOVQ_PORT=str(free_port()),
        )
        return Resident(f"service{index}", [sys.executable, "-m", "service"], env, self.folder)

    @property
    def service(self) -> Resident:
        """The first, and mostly the only one."""
        return self.services[0]

    @property
    def url(self) -> str:
        """The first service's; it may move."""
        return _url_of(self.service)

    def next_url(self) -> str:
        """Another service's each time, as a balancer would have it."""
        return _url_of(next(self._doors))

    # -- how it is ------------------------------------------------------------------------------

    def wait_for_redis(self, timeout_s: float = 30) -> float:
        return until(self.redis_answers, timeout_s, "redis answers")

    def redis_answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    def wait_until_ready(self, timeout_s: float = 90) -> None:
        """Every service answers, and every worker is registered and answers scrapes."""

        def ready() -> bool:
            try:
                counts = [
                    httpx.get(f"{_url_of(service)}/readyz", timeout=5).json()["models"][0]["workers"]
                    for service in self.services
                ]
                return min(counts) >= len(self.workers) and all(
                    self.rows(worker) is not None for worker in self.workers
                )
            except (httpx.HTTPError, KeyError, ValueError):
                return False

        until(ready, timeout_s, f"ready; {self.folder}")

    def rows(self, worker: Resident) -> tuple[float, float] | None:
        """Images on a worker's device, and those that wait for a row; None when it does not answer."""
        try:
            text = httpx.get(f"http://127.0.0.1:{worker.env['MOVQ_METRICS_PORT']}/metrics", timeout=5).text
        except httpx.HTTPError:
            return None
        running, waiting = (
            re.search(rf"^movq_rows_{name} (\S+)$", text, re.M) for name in ("running", "waiting")
        )
        return (float(running[1]), float(waiting[1])) if running and waiting else None

    def in_flight(self) -> int:
        """Jobs that some worker has; raises redis.RedisError."""
        return sum(int(self.client.zcard(f"rq:wip:{queue}")) for queue in QUEUES)

    def open_jobs(self) -> int:
        """Jobs that wait or run; raises redis.RedisError."""
        return self.in_flight() + sum(int(self.client.llen(f"rq:queue:{queue}")) for queue in QUEUES)

    def set_clock(self, offset: str) -> None:
        """Of whom the plan says, as faketime writes it: `+3600` is an hour ahead."""
        fresh = self.clock_path.with_suffix(".new")
        fresh.write_text(f"{offset}\n")
        fresh.replace(self.clock_path)

    def fill_disk(self, name: str) -> Path:
        """Until nothing more fits on one of its small disks; the file to remove."""
        filler = self.folder / name / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        return filler

    def remount(self, name: str, how: str) -> None:
        """One of its small disks: `ro` or `rw`; it is busy while somebody writes there."""
        command = ["mount", "-o", f"remount,{how}", str(self.folder / name)]

        def done() -> bool:
            return subprocess.run(command, check=False, capture_output=True).returncode == 0

        until(done, 20, f"{name} remounted {how}")


def _url_of(service: Resident) -> str:
    return f"http://127.0.0.1:{service.env['MOVQ_PORT']}"
