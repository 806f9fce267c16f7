"""Debian's own redis-server, which knows TLS; Sentinels are the same program."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, RedisError


def until(true: Callable[[], Any], timeout_s: float, what: str) -> float:
    """Seconds until `true()`; fails the test after `timeout_s`."""
    begun_s = time.monotonic()
    while not true():
        assert time.monotonic() - begun_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begun_s


class RedisServer:
    """`redis-server` in a folder of its own; `settings` are lines of its configuration."""

    def __init__(self, folder: Path, *settings: str, sentinel: bool = False) -> None:
        folder.mkdir()
        path = folder / "redis.conf"
        path.write_text("\n".join([f"dir {folder}", "bind 127.0.0.1", *settings]) + "\n")
        command = [find_program(), str(path), *(["--sentinel"] if sentinel else [])]
        with (folder / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_for(self, client: Redis) -> None:
        """Until it answers."""

        def answers() -> bool:
            assert self.process.poll() is None, "redis-server ended"
            try:
                return bool(client.ping())
            except RedisError:
                return False

        until(answers, 10, "an answer of redis-server")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def find_program() -> str:
    """Where it is; skips the test where there is none."""
    if program := shutil.which("redis-server"):
        return program
    pytest.skip("there is no redis-server here (Debian: apt install redis-server)")
