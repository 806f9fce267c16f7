"""`python -m deploy.local`: Redis, a worker a bundle, the service, its webhooks and retention, until Ctrl-C.

It knows the parts by their commands and their environment, and none of their insides.
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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import IO

from deploy.parts import stages
from deploy.process import Process
from deploy.supervisor import GivenUp, Supervisor
from movq_core.errors import BundleError
from movq_core.manifest import Manifest, read_manifest

CHECK_EVERY_S = 0.2
SOCKET_PATH_MAX = 100  # the kernel's limit for a unix socket's path is 107 bytes


HOW_TO_NAME = "MOVQ_MODEL_DIR= (movq up --models) names a bundle's folder, or several with commas between"


class CannotStart(Exception):
    """A sentence for the terminal: what is in the way, and what to do about it."""


@dataclass(frozen=True)
class Options:
    """What the environment may choose: PORT, HOST, MOVQ_DATA_DIR, MOVQ_MODEL_DIR.

    `model_dirs`: the bundles to serve, the first by default; separated by commas in MOVQ_MODEL_DIR. A
    symlink stays one: another bundle may come in its place.
    """

    host: str
    port: int
    data_dir: Path
    model_dirs: tuple[Path, ...]

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Options:
        """Raises CannotStart."""
        port = env.get("PORT", "8000")
        if not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise CannotStart(f"PORT is {port!r}; it must be a number from 1 to 65535.")
        models = env.get("MOVQ_MODEL_DIR", "models/emoji-64")
        return cls(
            host=env.get("HOST", "127.0.0.1"),
            port=int(port),
            data_dir=Path(env.get("MOVQ_DATA_DIR", "data")).resolve(),
            model_dirs=tuple(Path(name.strip()).absolute() for name in models.split(",") if name.strip()),
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


class Launcher:
    """The processes, started and stopped stage by stage."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._signals = 0
        self._lock: IO[str] | None = None
        self._socket_dir: Path | None = None
        self._manifests: list[Manifest] = []
        self._stages: list[list[Supervisor]] = []

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
        self._manifests = read_manifests(options.model_dirs)
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
            "MOVQ_HOST": options.host,
            "MOVQ_PORT": str(options.port),
            "PYTHONUNBUFFERED": "1",
        }
        bundles = {
            manifest.name: folder
            for manifest, folder in zip(self._manifests, options.model_dirs, strict=True)
        }
        tell(f"movq starts on {options.url}; data and logs are in {options.data_dir}")
        for parts in stages(redis_socket, options.data_dir / "redis", bundles, env):
            logs = [options.data_dir / "logs" / f"{part.name}.log" for part in parts]
            stage = [Supervisor(Process(part, env, log), tell) for part, log in zip(parts, logs, strict=True)]
            self._stages.append(stage)
            for supervisor in stage:
                supervisor.start()

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
            for supervisor in chain.from_iterable(self._stages):
                supervisor.check()
            if not ready and is_ready(self.options.url):
                ready = True
                tell(greeting(self.options.url, bool(self._manifests[0].labels)))
            time.sleep(CHECK_EVERY_S)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first asks to stop in order; one more kills what is left."""
        del number, frame
        self._signals += 1

    def _is_urgent(self) -> bool:
        return self._signals > 1

    def _stop(self) -> None:
        if self._stages:
            tell("\nmovq stops; jobs in flight are finished first. Ctrl-C again ends it at once.")
        for stage in reversed(self._stages):
            for supervisor in stage:
                supervisor.process.terminate()
            for supervisor in stage:
                supervisor.process.wait_or_kill(self._is_urgent)
        if self._socket_dir:
            shutil.rmtree(self._socket_dir)
        if self._lock:
            self._lock.close()


def read_manifests(folders: Sequence[Path]) -> list[Manifest]:
    """What the bundles say of themselves; raises CannotStart unless each is one, with a name of its own."""
    if not folders:
        raise CannotStart(f"No model is named; {HOW_TO_NAME}.")
    manifests = [_read(folder) for folder in folders]
    name, count = Counter(manifest.name for manifest in manifests).most_common(1)[0]
    if count > 1:
        raise CannotStart(
            f"{count} of the bundles are named {name!r}; each needs another name in its config.json."
        )
    return manifests


def _read(folder: Path) -> Manifest:
    try:
        return read_manifest(folder)
    except BundleError as error:
        raise CannotStart(f"There is no model in {folder} ({error}); {HOW_TO_NAME}.") from error


def is_ready(url: str) -> bool:
    """Whether the service says that it is ready, and each of its models has a worker."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:  # noqa: S310 - http, ours
            return all(model["workers"] for model in json.load(answer)["models"])
    except (urllib.error.URLError, OSError):
        return False


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
