"""Every benchmark beside its peers, one after another: `python -m benchmarks`, or some, named.

Each runs in a process of its own and prints its tables; one that fails does not keep the others from running.
"""

from __future__ import annotations

import json as json_text
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.measuring import JsonPath, machine

BENCHMARKS = (
    "tokenizer",
    "sampler",
    "priors",
    "redis_commands",
    "serving.engine",
    "serving.crowd",
    "serving.arrivals",
    "serving.growth",
    "serving.listeners",
    "serving.memory",
    "serving.startup",
)


def run(name: str) -> dict[str, Any] | None:
    """What the benchmark wrote; None when it failed, which it has said itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - ours
            return None
        document: dict[str, Any] = json_text.loads(path.read_text(encoding="utf-8"))
        return document


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(BENCHMARKS)}; none: all")] = None,
    json: JsonPath = None,
) -> None:
    """Run them, and gather their figures in one file."""
    documents: dict[str, Any] = {}
    for name in names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        started = time.perf_counter()
        documents[name] = run(name)
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    if json is not None:
        text = json_text.dumps({"machine": machine(), "benchmarks": documents}, indent=2)
        json.write_text(f"{text}\n", encoding="utf-8")
    if failed := [name for name, document in documents.items() if document is None]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    typer.run(main)
