"""The whole service beside its peers, at equal steps: `python -m benchmarks.serving.crowd`

Sixteen clients in a closed loop, and one alone; PNGs over HTTP, asked for by a process of its own. In each
round ours, LitServe and RQ's SimpleWorker take turns with the raw model, which neither queues nor encodes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

from benchmarks.measuring import JsonPath, Timing, in_turn, show, spread, versions, write_json
from benchmarks.serving.bundle import GRID, served_bundle
from benchmarks.serving.client import Answer
from benchmarks.serving.raw_model import RawModel
from benchmarks.serving.requests import Requests, equal_requests
from benchmarks.serving.servers import litserve, our_service, rq_simple_worker
from benchmarks.serving.visit import Visit, visit

RAW, OURS = "raw model", "movq"
BATCH = 16  # our rows, LitServe's largest batch, and the raw model's
PEERS = ("litserve", "rq")

Visits = dict[str, list[Visit]]


def visit_raw(raw: RawModel, requests: Requests) -> Visit:
    """The same requests in static batches, as they would fare if asked for at once."""
    started, cpu_s = time.perf_counter(), time.process_time()
    answers: list[Answer] = []
    for first in range(0, len(requests), BATCH):
        batch = requests[first : first + BATCH]
        raw.images(batch)
        took_s = time.perf_counter() - started
        answers += [
            Answer(seed=r.sampling.seed, steps=r.sampling.steps, asked_s=0.0, took_s=took_s, sha256="")
            for r in batch
        ]
    return Visit(tuple(answers), time.perf_counter() - started, {"the loop": time.process_time() - cpu_s})


def wall(visits: list[Visit]) -> Timing:
    return Timing(tuple(v.wall_s for v in visits))


def crowd_table(visits: Visits, title: str) -> Table:
    table = Table("", "images/s", "of the raw model", "ours by theirs", "p50, s", "p95, s", title=title)
    for name, rounds in visits.items():
        table.add_row(
            name,
            spread([v.images_a_second for v in rounds]),
            f"{wall(visits[RAW]).ratio_to(wall(rounds)):.1%}",
            f"{wall(rounds).ratio_to(wall(visits[OURS])):.2f}x",
            spread([v.latency_s(0.5) for v in rounds]),
            spread([v.latency_s(0.95) for v in rounds]),
        )
    return table


def alone_table(visits: Visits, title: str) -> Table:
    """p50 of one client's requests, and what it is more than the bare loop's, within rounds."""
    table = Table("", "p50, ms", "more than the raw model, ms", title=title)
    for name, rounds in visits.items():
        p50_ms = [1000 * v.latency_s(0.5) for v in rounds]
        bare_ms = [1000 * v.latency_s(0.5) for v in visits[RAW]]
        more_ms = [ours - bare for ours, bare in zip(p50_ms, bare_ms, strict=True)]
        table.add_row(name, spread(p50_ms), spread(more_ms))
    return table


def cpu_table(visits: Visits) -> Table:
    table = Table("", "part", "CPU ms an image", title="where the processors' time goes")
    for name, rounds in visits.items():
        costs = [v.cpu_ms_an_image() for v in rounds]
        for part in costs[0]:
            table.add_row(name, part, spread([cost[part] for cost in costs]))
        table.add_section()
    return table


def figures(visits: Visits) -> dict[str, Any]:
    """For JSON."""
    return {
        name: {
            "images_a_second": [v.images_a_second for v in rounds],
            "of_raw_model": wall(visits[RAW]).ratio_to(wall(rounds)),
            "p50_s": [v.latency_s(0.5) for v in rounds],
            "p95_s": [v.latency_s(0.95) for v in rounds],
            "cpu_ms_an_image": [v.cpu_ms_an_image() for v in rounds],
        }
        for name, rounds in visits.items()
    }


def same_images(visits: Visits) -> str:
    """Whether all servers gave the same PNGs to the same seeds."""
    servers = {name: rounds[0].images for name, rounds in visits.items() if name != RAW}
    equal = len(set.intersection(*servers.values()))
    return f"{equal} of {len(servers[OURS])} PNGs are equal from all of {', '.join(servers)}"


def main(
    clients: Annotated[int, typer.Option(min=1)] = BATCH,
    images: Annotated[int, typer.Option(min=1, help="requests of the crowd a round")] = 2 * BATCH,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    grid: Annotated[
        int, typer.Option(min=1, help="codes to a side: a batch gains more where they are few")
    ] = GRID,
    json: JsonPath = None,
) -> None:
    """Print and write throughput, latency and CPU time of a crowd and of one client alone."""
    requests, single = equal_requests(images), equal_requests(2)
    with ExitStack() as stack:
        model_dir = stack.enter_context(served_bundle(grid))
        raw = RawModel(model_dir)
        servers = [stack.enter_context(s(model_dir)) for s in (our_service, litserve, rq_simple_worker)]
        for server in servers:
            visit(
                server, equal_requests(BATCH, seed=1), BATCH
            )  # the first requests pay for what is set up late
        crowd = in_turn(
            {RAW: partial(visit_raw, raw, requests)}
            | {server.name: partial(visit, server, requests, clients) for server in servers},
            rounds,
        )
        alone = in_turn(
            {RAW: partial(visit_raw, raw, single[:1])}
            | {server.name: partial(visit, server, single) for server in servers},
            2 * rounds, warmup=1,
        )  # fmt: skip
    show(
        crowd_table(crowd, f"{images} requests of 12 steps, {clients} clients, {grid}x{grid} codes"),
        same_images(crowd),
        cpu_table(crowd),
        alone_table(alone, "one client alone"),
        f"peers: {versions(PEERS)}",
    )
    write_json(json, "crowd", {"crowd": figures(crowd), "alone": figures(alone), "peers": versions(PEERS)})


if __name__ == "__main__":
    typer.run(main)
