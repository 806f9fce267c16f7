"""Causes: what an alert is there for, made to happen to a running stack."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from redis import Redis

from tests.chaos.cursed_worker import UNLUCKY_SEED
from tests.chaos.house import Resident
from tests.end_to_end.stack import Stack, until
from tests.observe.prometheus import Prometheus

PATIENCE_S = 45.0


class Watch:
    """Waits for alerts, and writes down when each fired."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus = prometheus
        self.fired: dict[str, float] = {}  # by alert: seconds from its cause on

    def wait(self, *alerts: str, patience_s: float = PATIENCE_S, meanwhile: Callable[[], Any] = int) -> None:
        """Until all of these fire; asks `meanwhile` again and again."""
        assert not self._prometheus.firing() & set(alerts), "before their cause"
        begun_s = time.monotonic()

        def all_fired() -> bool:
            meanwhile()
            for alert in self._prometheus.firing() & set(alerts):
                self.fired.setdefault(alert, time.monotonic() - begun_s)
            return set(alerts) <= self.fired.keys()

        until(all_fired, patience_s, f"{set(alerts) - self.fired.keys()} fire")


def flood(stack: Stack, jobs: int = 80) -> None:
    """More than the queue takes, an image a job: so the workers hold many."""
    for number in range(jobs):
        stack.post("/v1/generations", json={"class_id": 1, "steps": 64, "seed": number})


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """One of its processes, stopped in the midst."""
    stack.kill(name, signal.SIGSTOP)
    try:
        yield
    finally:
        stack.kill(name, signal.SIGCONT)


@contextmanager
def other_worker(stack: Stack, port: int, curse_path: Path | None = None) -> Iterator[Resident]:
    """One more, with metrics of its own; with `curse_path` a cursed one, see tests/chaos/cursed_worker.py."""
    environ = Path(f"/proc/{stack.children()['worker']}/environ").read_bytes().decode()
    env = dict(entry.partition("=")[::2] for entry in environ.split("\0") if entry)
    env |= {"MOVQ_METRICS_PORT": str(port), "CHAOS_CURSE": str(curse_path)}
    module = "tests.chaos.cursed_worker" if curse_path else "worker"
    worker = Resident("other-worker", [sys.executable, "-m", module], env, stack.data_dir)
    worker.start()
    try:
        yield worker
    finally:
        if worker.is_running():
            worker.leave(60)


def unlucky(stack: Stack) -> None:
    """A job that a cursed worker stumbles over."""
    stack.post("/v1/generations", json={"class_id": 1, "steps": 12, "seed": UNLUCKY_SEED})
    time.sleep(1.2)  # a scrape sees it: what a counter counts before its first scrape, no rate tells


@contextmanager
def unsaved(stack: Stack, redis: Redis) -> Iterator[None]:
    """Where Redis would write its snapshot stands a folder."""
    place = stack.data_dir / "redis" / redis.config_get("dbfilename")["dbfilename"]
    place.mkdir()
    redis.bgsave()
    try:
        yield
    finally:
        place.rmdir()
        redis.bgsave()


@contextmanager
def small_disk(stack: Stack) -> Iterator[None]:
    """The images' folder is on a disk of 64 MiB."""
    place = str(stack.data_dir / "blobs")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def decoders_killed(stack: Stack) -> Iterator[Callable[[], None]]:
    """Whatever decodes uploads is killed at once; yields what sends an upload."""
    service = psutil.Process(stack.children()["service"])
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            for decoder in service.children():
                with suppress(psutil.NoSuchProcess):
                    decoder.kill()

    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    picture = io.BytesIO()
    Image.fromarray(noise).save(picture, "PNG", compress_level=1)
    headers = {"content-type": "image/png"}
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield lambda: stack.post("/v1/reconstructions", content=picture.getvalue(), headers=headers)
    finally:
        over.set()
        killer.join()


@contextmanager
def nearly_full(redis: Redis) -> Iterator[None]:
    """Redis holds nine tenths of what it may."""
    before = redis.config_get("maxmemory")["maxmemory"]
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.9))
    try:
        yield
    finally:
        redis.config_set("maxmemory", before)


@contextmanager
def another_password(redis: Redis) -> Iterator[None]:
    """Redis wants one that nobody knows; `redis` itself stays connected."""
    redis.config_set("requirepass", "another")
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    try:
        yield
    finally:
        redis.config_set("requirepass", "")


def ask(stack: Stack) -> None:
    """A request whose answer does not matter."""
    try:
        stack.post("/v1/generations", json={"class_id": 1, "steps": 4})
    except httpx.TransportError:
        return
