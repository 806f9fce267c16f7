"""Causes: what an alert is there for, made to happen to a running stack."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

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
def other_worker(stack: Stack, port: int) -> Iterator[None]:
    """One more, with metrics of its own."""
    environ = Path(f"/proc/{stack.children()['worker']}/environ").read_bytes().decode()
    env = dict(entry.partition("=")[::2] for entry in environ.split("\0") if entry)
    env["MOVQ_METRICS_PORT"] = str(port)
    command = [sys.executable, "-m", "worker"]
    worker = subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(60)


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
