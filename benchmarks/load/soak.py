"""An hour of steady load, in which nothing may grow: `python -m benchmarks.load.soak --out FOLDER`

`make up` with the demo bundle, its records kept for minutes instead of days, so that what is made and what is
removed are soon in balance. Every ten seconds all that could grow is measured, and a line is written to
`samples.jsonl`; `--only-show` shows what is there so far.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from redis import Redis
from rich.table import Table

from benchmarks.load.__main__ import bundle_of, capacity, url_of
from benchmarks.load.health import Health
from benchmarks.load.visitors import Visitors
from benchmarks.measuring import machine, show
from benchmarks.serving.servers import Server, our_service

SAMPLE_EVERY_S = 10.0
LAST_S = 1800.0  # growth is judged over the last half hour, or the last half of a shorter run
SHARE = 0.6
IMAGES_A_VISIT = 1.5  # about, over the mix
AGES = {
    "MOVQ_RESULT_TTL_S": "180",
    "MOVQ_FAILURE_TTL_S": "180",
    "MOVQ_JOB_TIMEOUT_S": "60",
    "MOVQ_BLOB_AGE_S": "240",
    "MOVQ_PREVIEW_AGE_S": "120",
    "MOVQ_RETENTION_GRACE_S": "60",
    "MOVQ_RETENTION_EVERY_S": "20",
}

AOF_REWRITE = "8mb"  # its log grows to 64 MiB, by default, before it is written anew: for longer than an hour

Sample = dict[str, Any]


async def soak(server: Server, data_dir: Path, a_second: float, seconds: float, out: Path) -> None:
    """Visitors come, and samples are written, until it is over."""
    url = url_of(server)
    redis = Redis.from_url(f"unix://{data_dir / 'redis' / 'redis.sock'}")
    redis.config_set("auto-aof-rewrite-min-size", AOF_REWRITE)
    health = Health(server.processes, redis, data_dir)
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=32)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        visitors = Visitors(client, seed=0)
        with (out / "samples.jsonl").open("w", encoding="utf-8") as lines:
            stay = asyncio.create_task(visitors.stay(a_second, seconds))
            while not stay.done():
                sample = await asyncio.to_thread(health.sample, url)
                lines.write(json.dumps(sample | {"outcomes": dict(visitors.outcomes)}) + "\n")
                lines.flush()
                await asyncio.wait([stay], timeout=SAMPLE_EVERY_S)
            await stay
    redis.close()


def read(out: Path) -> list[Sample]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def growth(samples: Sequence[Sample], name: str) -> float:
    """By a line through the last half hour: what it rises in it, as a share of its mean."""
    at_s = np.array([sample["time, s"] for sample in samples])
    last_s = min(LAST_S, (at_s[-1] - at_s[0]) / 2)
    is_last = at_s >= at_s[-1] - last_s
    values = np.array([float(sample[name]) for sample in samples])[is_last]
    slope, _ = np.polyfit(at_s[is_last] - at_s[-1], values, 1)
    return float(slope * last_s / max(1e-9, values.mean()))


def soak_table(samples: Sequence[Sample]) -> Table:
    third = max(1, len(samples) // 3)
    hours = (samples[-1]["time, s"] - samples[0]["time, s"]) / 3600
    table = Table("", "first third", "last third", "growth in the last half hour", title=f"{hours:.2f} hours")
    for name in samples[0]:
        if name in ("time, s", "outcomes") or name.endswith("CPU, s"):
            continue
        first, last = (np.mean([s[name] for s in part]) for part in (samples[:third], samples[-third:]))
        table.add_row(name, f"{first:.1f}", f"{last:.1f}", f"{growth(samples, name):+.1%}")
    return table


def outcome_table(samples: Sequence[Sample]) -> Table:
    table = Table("visitor: answer", "times")
    for outcome, times in sorted(samples[-1]["outcomes"].items()):
        table.add_row(outcome, str(times))
    return table


def main(
    out: Annotated[Path, typer.Option(help="a folder for its data and samples.jsonl")],
    minutes: Annotated[float, typer.Option(min=0.5)] = 60.0,
    a_second: Annotated[float, typer.Option(min=0, help=f"visitors; 0: {SHARE:.0%} of the capacity")] = 0.0,
    model: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("models/emoji-64"),
    only_show: Annotated[bool, typer.Option(help="what such a run has written so far")] = False,
) -> None:
    """Run it, and print what grew."""
    if not only_show:
        out.mkdir(parents=True, exist_ok=True)
        data_dir = (out / "data").resolve()
        environment = {**AGES, "MOVQ_DATA_DIR": str(data_dir), "MOVQ_LOG_LEVEL": "WARNING"}
        with bundle_of(model) as folder, our_service(folder, **environment) as server:
            rate = a_second or SHARE * capacity(server, 10.0, mixed=False) / IMAGES_A_VISIT
            told = {"visitors a second": rate, "minutes": minutes, **machine()}
            (out / "run.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
            asyncio.run(soak(server, data_dir, rate, 60 * minutes, out))
    samples = read(out)
    show(soak_table(samples), outcome_table(samples))


if __name__ == "__main__":
    typer.run(main)
