"""From one client to sixty-four: `python -m benchmarks.serving.growth`

What a closed loop of them gets from the whole service, how full the worker's batches are, and what an image
costs the processors beside the engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from benchmarks.measuring import JsonPath, in_turn, show, spread, write_json
from benchmarks.serving.bundle import served_bundle
from benchmarks.serving.requests import equal_requests
from benchmarks.serving.servers import Server, free_port, our_service
from benchmarks.serving.visit import Visit, visit

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
TURNS = 2  # requests of each client a round


@dataclass(frozen=True)
class Steps:
    """What the worker has done so far: steps, and the rows of them all."""

    steps: float
    rows: float

    @classmethod
    def read(cls, metrics_url: str) -> Steps:
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(httpx.get(metrics_url).text)
            for sample in family.samples
        }
        return cls(values["movq_batch_rows_count"], values["movq_batch_rows_sum"])


@dataclass(frozen=True)
class Level:
    """What one number of clients got in one round."""

    visit: Visit
    rows_a_step: float

    @classmethod
    def measure(cls, server: Server, metrics_url: str, clients: int) -> Level:
        before = Steps.read(metrics_url)
        done = visit(server, equal_requests(TURNS * clients), clients)
        after = Steps.read(metrics_url)
        return cls(done, (after.rows - before.rows) / (after.steps - before.steps))

    @property
    def cpu_ms_beside_engine(self) -> float:
        """CPU milliseconds an image of service, Redis, clients, and all of the worker but its engine."""
        costs = self.visit.cpu_ms_an_image()
        return sum(costs.values()) - costs["worker's engine"]


def figures(rounds: list[Level]) -> dict[str, list[float]]:
    """A value a round, for table and JSON."""
    return {
        "images/s": [level.visit.images_a_second for level in rounds],
        "p50, s": [level.visit.latency_s(0.5) for level in rounds],
        "p95, s": [level.visit.latency_s(0.95) for level in rounds],
        "rows a step": [level.rows_a_step for level in rounds],
        "CPU ms an image beside the engine": [level.cpu_ms_beside_engine for level in rounds],
    }


def growth_table(results: dict[str, dict[str, list[float]]]) -> Table:
    columns = next(iter(results.values()))
    table = Table("clients", *columns, title=f"{TURNS} requests of 12 steps a client, 16 rows")
    for clients, columns in results.items():
        table.add_row(clients, *map(spread, columns.values()))
    return table


def main(
    most: Annotated[int, typer.Option(min=1, help="clients at most")] = CLIENTS[-1],
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    json: JsonPath = None,
) -> None:
    """Print and write throughput, latency, batch fill and costs by the number of clients."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    with served_bundle() as model_dir, our_service(model_dir, MOVQ_METRICS_PORT=str(port)) as server:
        visit(server, equal_requests(1))  # the first pays for what is set up late
        cases = {str(n): partial(Level.measure, server, url, n) for n in CLIENTS if n <= most}
        results = {clients: figures(levels) for clients, levels in in_turn(cases, rounds).items()}
    show(growth_table(results))
    write_json(json, "growth", results)


if __name__ == "__main__":
    typer.run(main)
