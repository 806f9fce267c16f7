"""Health: how large a server and all that it keeps are, at one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
from redis import Redis

MIB = 2**20
PROBES = 5


class Health:
    """Of a launcher's processes, its Redis, its data folder and its service's event loop."""

    def __init__(self, processes: Mapping[str, list[psutil.Process]], redis: Redis, data_dir: Path) -> None:
        self._processes = {name: process for name, (process,) in processes.items()}
        self._redis, self._data_dir = redis, data_dir

    def sample(self, url: str) -> dict[str, float]:
        """A figure by its name, as in `worker: RSS, MiB`."""
        figures: dict[str, float] = {"time, s": time.time()}
        for name, process in self._processes.items():
            memory = process.memory_full_info()
            figures |= {
                f"{name}: RSS, MiB": memory.rss / MIB,
                f"{name}: PSS, MiB": memory.pss / MIB,
                f"{name}: file handles": process.num_fds(),
                f"{name}: threads": process.num_threads(),
                f"{name}: CPU, s": sum(process.cpu_times()[:2]),
            }
        return figures | self._of_redis() | self._of_disk() | {"livez, ms": livez_ms(url)}

    def _of_redis(self) -> dict[str, float]:
        info: Any = self._redis.info()
        keys: Any = self._redis.dbsize()
        return {
            "Redis: keys": keys,
            "Redis: memory, MiB": info["used_memory"] / MIB,
            "Redis: AOF, MiB": info["aof_current_size"] / MIB,
        }

    def _of_disk(self) -> dict[str, float]:
        blobs = sizes(self._data_dir / "blobs")
        return {
            "blobs": len(blobs),
            "blobs, MiB": sum(blobs) / MIB,
            "logs, MiB": sum(sizes(self._data_dir / "logs")) / MIB,
        }


def sizes(folder: Path) -> list[int]:
    """Bytes of each file in it."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it was removed just now
            if path.is_file():
                found.append(path.stat().st_size)
    return found


def livez_ms(url: str) -> float:
    """The slowest of some requests that need nothing but the event loop."""
    with httpx.Client(base_url=url, timeout=30) as client:
        took_s = []
        for _ in range(PROBES):
            begun_s = time.perf_counter()
            client.get("/livez").raise_for_status()
            took_s.append(time.perf_counter() - begun_s)
    return 1000 * max(took_s)
