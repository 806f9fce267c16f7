"""Debian's own redis-server, which knows TLS; Sentinels are the same program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from redis import Redis, RedisError

from tests.end_to_end.stack import until


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
