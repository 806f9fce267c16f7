"""What does a crowd cost? One generation after another against eight at once, through the whole service.

`python -m benchmarks.batching` starts Redis, a worker and the service on free ports with an empty data
folder, measures, and stops them. Ratios of one run on one machine: absolute times are that machine's.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

START_S = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_stack() -> Iterator[tuple[str, str]]:
    """The local launcher on free ports; yields the service's URL and the worker's metrics URL."""
    port, metrics_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "PORT": str(port),
            "MOVQ_DATA_DIR": folder,
            "MOVQ_METRICS_PORT": str(metrics_port),
        }
        command = [sys.executable, "-m", "deploy.local"]
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as launcher:  # noqa: S603 - ours
            try:
                wait_until_ready(f"http://127.0.0.1:{port}", launcher)
                yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics"
            finally:
                launcher.send_signal(signal.SIGINT)
                launcher.wait(60)


def wait_until_ready(url: str, launcher: subprocess.Popen[bytes]) -> None:
    """Raises RuntimeError when the launcher ends, TimeoutError when it is not ready in time."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if launcher.poll() is not None:
            raise RuntimeError("the launcher ended: its output says why")
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise TimeoutError(f"{url} was not ready within {START_S:.0f} s")


def generate(url: str, seed: int, steps: int, guidance_scale: float) -> None:
    body = {"class_id": seed % 3, "steps": steps, "seed": seed, "guidance_scale": guidance_scale}
    answer = httpx.post(f"{url}/generate", json=body, headers={"accept": "image/png"}, timeout=120)
    answer.raise_for_status()


def seconds_at_once(url: str, count: int, steps: int, guidance_scale: float) -> float:
    """Wall seconds until `count` requests that arrive together are all answered."""
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda seed: generate(url, seed, steps, guidance_scale), range(count)))
    return time.perf_counter() - started


def steps_seen(metrics_url: str) -> dict[str, float]:
    """Sums and counts of the worker's step histograms so far."""
    wanted = ("movq_batch_rows", "movq_step_duration_seconds")
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(metrics_url).text):
        for sample in family.samples:
            if family.name in wanted and sample.name.endswith(("_sum", "_count")):
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


@dataclass
class Series:
    """What one number of requests at once measured, a value a round."""

    requests: int
    wall_s: list[float] = field(default_factory=list)
    rows_a_step: list[float] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)

    def measure(self, url: str, metrics_url: str, steps: int, guidance_scale: float) -> None:
        before = steps_seen(metrics_url)
        self.wall_s.append(seconds_at_once(url, self.requests, steps, guidance_scale))
        after = steps_seen(metrics_url)
        delta = {name: after[name] - before.get(name, 0.0) for name in after}
        taken = delta["movq_batch_rows_count"]
        self.rows_a_step.append(delta["movq_batch_rows_sum"] / taken)
        self.step_ms.append(1000 * delta["movq_step_duration_seconds_sum"] / taken)


def report(one: Series, many: Series, title: str) -> Table:
    """Medians side by side."""
    alone_s, together_s = statistics.median(one.wall_s), statistics.median(many.wall_s)
    count = many.requests
    table = Table("", "one alone", f"{count} at once", title=title)
    table.add_row("wall seconds, median", f"{alone_s:.3f}", f"{together_s:.3f}")
    table.add_row("images a second", f"{1 / alone_s:.1f}", f"{count / together_s:.1f}")
    for label, name in (("rows a step (batch fill)", "rows_a_step"), ("milliseconds a step", "step_ms")):
        table.add_row(label, *(f"{statistics.median(getattr(series, name)):.1f}" for series in (one, many)))
    table.add_section()
    table.add_row(
        f"{count} times one alone", f"{count * alone_s:.3f}", f"{count * alone_s / together_s:.2f}x"
    )
    return table


def main(
    count: Annotated[int, typer.Option(min=2, help="requests at once")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="measurements of each, interleaved")] = 7,
    steps: Annotated[int, typer.Option(min=1, max=64)] = 12,
    guidance_scale: Annotated[float, typer.Option(min=0.0)] = 3.0,
) -> None:
    """Print the medians, their ratio, the batch fill and the step time."""
    one, many = Series(1), Series(count)
    with running_stack() as (url, metrics_url):
        seconds_at_once(url, count, steps, guidance_scale)  # warm
        for _ in range(rounds):
            one.measure(url, metrics_url, steps, guidance_scale)
            many.measure(url, metrics_url, steps, guidance_scale)
    Console().print(report(one, many, f"{steps} steps, guidance {guidance_scale}"))


if __name__ == "__main__":
    typer.run(main)
