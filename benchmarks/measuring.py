"""Measuring ways of doing one thing beside each other, in one run; every benchmark's clock, table and file.

A shared machine's speed wanders by the minute. So the ways take turns, in a new order each round, and what
is told is the ratio within rounds: a slow minute counts on both sides.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")

REPORT_WIDTH = 120  # characters, in a file or a pipe

# What every benchmark offers: `def main(json: JsonPath = None)`.
JsonPath = Annotated[Path | None, typer.Option("--json", help="write the figures here too")]


@dataclass(frozen=True)
class Timing:
    """The seconds of one way, a value a round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return self.quantile_s(0.5)

    @property
    def low_s(self) -> float:
        """The lower quartile."""
        return self.quantile_s(0.25)

    @property
    def high_s(self) -> float:
        """The upper quartile."""
        return self.quantile_s(0.75)

    def quantile_s(self, share: float) -> float:
        """The seconds that `share` of the rounds stayed below: 0.95 is p95."""
        return float(np.quantile(self.seconds, share))

    def ratio_to(self, other: Timing) -> float:
        """The median over the rounds of our seconds by theirs; both were timed in the same rounds."""
        return float(np.median(np.divide(self.seconds, other.seconds)))

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {"median_s": self.median_s, "low_s": self.low_s, "high_s": self.high_s, **asdict(self)}


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 2,
    after: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time each case once a round, in turn; `warmup` rounds before are not kept.

    `after` belongs to every timing: on a GPU, `torch.cuda.synchronize`.
    """
    clocks = {name: partial(seconds_of, case, after) for name, case in cases.items()}
    return {name: Timing(tuple(seconds)) for name, seconds in in_turn(clocks, rounds, warmup).items()}


def in_turn(
    cases: Mapping[str, Callable[[], Result]], rounds: int, warmup: int = 0, seed: int = 0
) -> dict[str, list[Result]]:
    """What each case returned in each round that is kept; the order within a round is drawn anew."""
    order, rng = list(cases), np.random.default_rng(seed)
    results: dict[str, list[Result]] = {name: [] for name in cases}
    for _ in range(warmup + rounds):
        rng.shuffle(order)
        for name in order:
            results[name].append(cases[name]())
    return {name: values[warmup:] for name, values in results.items()}


def seconds_of(case: Callable[[], object], after: Callable[[], None] | None = None) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    case()
    if after is not None:
        after()
    return time.perf_counter() - started


def comparison(title: str, timings: Mapping[str, Timing], baseline: str, unit: str = "ms") -> Table:
    """A table of medians and quartiles in ms, s or us, and how many times faster than `baseline` each is."""
    scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit]
    table = Table("", f"median, {unit}", "quartiles", f"times {baseline}", title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, timing in timings.items():
        table.add_row(
            name,
            f"{timing.median_s * scale:.3g}",
            f"{timing.low_s * scale:.3g} to {timing.high_s * scale:.3g}",
            f"{timings[baseline].ratio_to(timing):.2f}x",
        )
    return table


def show(*parts: Table | str) -> None:
    """Print tables and sentences; wide, where nobody's window says otherwise."""
    console = Console()
    if not console.is_terminal:
        console.width = REPORT_WIDTH
    console.print(*parts, sep="\n")


def versions(packages: Iterable[str]) -> str:
    """`litserve 0.2.1, rq 3.0.0`: which peers a table compares with."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median (lower quartile to upper quartile)` of values that are no seconds; of one, itself."""
    if len(values) == 1:
        return f"{values[0]:.{digits}g}"
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{median:.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"


def machine() -> dict[str, Any]:
    """What figures belong to: processor, cores, torch and threads, the card if there is one, the commit."""
    on_cuda = torch.cuda.is_available()
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if on_cuda else None,
        "python": platform.python_version(),
        "commit": git_commit(),
    }


def cpu_name() -> str:
    """As the kernel tells it; the platform's word where there is no /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def git_commit() -> str:
    """What is checked out, `-dirty` when files differ from it; empty outside a checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    answer = subprocess.run(  # noqa: S603 - ours
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return answer.stdout.strip()


def write_json(path: Path | None, benchmark: str, results: Mapping[str, Any]) -> None:
    """One benchmark's figures, with what they belong to; Timings become their summaries. None: no file."""
    if path is None:
        return
    document = {
        "benchmark": benchmark,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2, default=_as_json) + "\n", encoding="utf-8")


def _as_json(value: object) -> Any:
    if isinstance(value, Timing):
        return value.summary()
    if isinstance(value, np.generic):
        return value.item()
    return asdict(value)  # type: ignore[call-overload]  # a frozen record; anything else is a TypeError
