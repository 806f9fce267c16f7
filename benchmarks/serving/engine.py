"""What does the engine cost, and what does it bring? `python -m benchmarks.serving.engine`

Without queue and service. At saturation and equal steps: the engine against the raw model in
batches of as many rows. Under mixed steps, all of them waiting at the start: continuous batching against
static batches, in the order of arrival, that run until their longest request has its steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.measuring import JsonPath, interleaved, show, spread, write_json
from benchmarks.serving.bundle import cache_of, served_bundle
from benchmarks.serving.raw_model import RawModel
from benchmarks.serving.requests import Requests, equal_requests, mixed_requests
from worker.engine import Engine
from worker.fakes import SilentMetrics
from worker.model_runner import ModelRunner
from worker.work import Outcome, Work

ENGINE, STATIC, EARLY = "engine", "raw model", "raw model, done ones leave"


@contextmanager
def running_engine(model_dir: Path, rows: int) -> Iterator[Engine]:
    # Loaded by a thread that ends: OpenMP keeps threads for each of ours that has ever computed, and once
    # there are more of them than cores, every one waits asleep, which a step pays for hundreds of times.
    with ThreadPoolExecutor(1) as loader:
        runner = loader.submit(ModelRunner, model_dir, rows, cache_dir=cache_of(model_dir)).result()
    engine = Engine(runner, rows, SilentMetrics())
    engine.start()
    yield engine
    engine.stop(timeout_s=60.0)


@contextmanager
def raw_model_elsewhere(model_dir: Path) -> Iterator[ProcessPoolExecutor]:
    """A process with the raw model in it, for the engine's sake: see `running_engine`."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=load_raw_model, initargs=(model_dir,)) as process:
        yield process


RAW: list[RawModel] = []  # in that process


def load_raw_model(model_dir: Path) -> None:
    RAW.append(RawModel(model_dir))


def through_engine(engine: Engine, requests: Requests) -> list[float]:
    """Seconds from now until each request has its pixels; all are given to the engine at once."""
    started = time.perf_counter()
    for number, request in enumerate(requests):
        engine.inbox.put(Work(str(number), request))
    done_s: list[float] = []
    while len(done_s) < len(requests):
        outcome = engine.outbox.get()
        if not isinstance(outcome, Outcome):
            continue  # progress
        if outcome.error is not None:
            raise outcome.error
        done_s.append(time.perf_counter() - started)
    return done_s


def through_raw_model(
    process: ProcessPoolExecutor, rows: int, leave_early: bool, requests: Requests
) -> list[float]:
    """Seconds from now until each request has its pixels, batch after batch of `rows`."""
    return process.submit(batch_after_batch, rows, leave_early, requests).result()


def batch_after_batch(rows: int, leave_early: bool, requests: Requests) -> list[float]:
    started = time.perf_counter()
    done_s: list[float] = []
    for first in range(0, len(requests), rows):
        images = RAW[0].images(requests[first : first + rows], leave_early)
        done_s += [time.perf_counter() - started] * len(images)
    return done_s


@dataclass
class Way:
    """One way to serve `requests`, and what each of its rounds gave."""

    serve: partial[list[float]]
    requests: Requests
    done_s: list[list[float]] = field(default_factory=list)

    def __call__(self) -> None:
        self.done_s.append(self.serve(self.requests))


def measure(ways: dict[str, Way], rounds: int, title: str, baseline: str) -> tuple[Table, dict[str, object]]:
    """Images a second and latency of each way, in turn."""
    timings = interleaved(ways, rounds, warmup=1)
    table = Table("", "images/s", f"times {baseline}", "p50, s", "p95, s", title=title)
    results: dict[str, object] = {}
    for name, way in ways.items():
        images_a_second = [len(way.requests) / seconds for seconds in timings[name].seconds]
        ratio = timings[baseline].ratio_to(timings[name])
        p50_s, p95_s = np.quantile(np.concatenate(way.done_s[-rounds:]), (0.5, 0.95))
        table.add_row(name, spread(images_a_second), f"{ratio:.3f}x", f"{p50_s:.2f}", f"{p95_s:.2f}")
        results[name] = {"seconds": timings[name], "ratio": ratio, "p50_s": p50_s, "p95_s": p95_s}
    return table, results


def main(
    rows: Annotated[int, typer.Option(min=1)] = 16,
    batches: Annotated[int, typer.Option(min=1, help="requests a round, in batches of `rows`")] = 2,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    json: JsonPath = None,
) -> None:
    """Print and write images a second and latency of the engine and of the raw model."""
    equal, mixed = equal_requests(rows * batches), mixed_requests(rows * batches)
    with (
        served_bundle() as model_dir,
        raw_model_elsewhere(model_dir) as raw,
        running_engine(model_dir, rows) as engine,
    ):
        ours = partial(through_engine, engine)
        static, early = (partial(through_raw_model, raw, rows, leave_early) for leave_early in (False, True))
        saturation, at_saturation = measure(
            {ENGINE: Way(ours, equal), STATIC: Way(static, equal)},
            rounds, f"{len(equal)} requests of 12 steps, {rows} rows", STATIC,
        )  # fmt: skip
        batching, under_mixed = measure(
            {ENGINE: Way(ours, mixed), STATIC: Way(static, mixed), EARLY: Way(early, mixed)},
            rounds, f"{len(mixed)} requests of 4 to 24 steps, {rows} rows", STATIC,
        )  # fmt: skip
    show(saturation, batching)
    write_json(json, "engine", {"saturation": at_saturation, "mixed_steps": under_mixed})


if __name__ == "__main__":
    typer.run(main)
