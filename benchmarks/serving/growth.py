"""From one client to sixty-four: `python -m benchmarks.serving.growth`"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import JsonPath, in_turn, spread, write_json
from benchmarks.serving.bundle import served_bundle
from benchmarks.serving.requests import equal_requests
from benchmarks.serving.servers import our_service
from benchmarks.serving.visit import Visit, visit

CLIENTS = (1, 2, 4, 8, 16, 32, 64)
TURNS = 2  # requests of each client a round


def growth_table(visits: dict[str, list[Visit]]) -> Table:
    table = Table("clients", "images/s", "p50, s", "p95, s", "CPU ms an image beside the engine",
                  title=f"{TURNS} requests of 12 steps a client")  # fmt: skip
    for clients, rounds in visits.items():
        beside = [sum(v.cpu_ms_an_image().values()) - engine_ms(v) for v in rounds]
        table.add_row(
            clients,
            spread([v.images_a_second for v in rounds]),
            spread([v.latency_s(0.5) for v in rounds]),
            spread([v.latency_s(0.95) for v in rounds]),
            spread(beside),
        )
    return table


def engine_ms(done: Visit) -> float:
    return done.cpu_ms_an_image()["worker's engine"]


def figures(visits: dict[str, list[Visit]]) -> dict[str, Any]:
    """For JSON."""
    return {
        clients: {
            "images_a_second": [v.images_a_second for v in rounds],
            "p50_s": [v.latency_s(0.5) for v in rounds],
            "p95_s": [v.latency_s(0.95) for v in rounds],
            "cpu_ms_an_image": [v.cpu_ms_an_image() for v in rounds],
        }
        for clients, rounds in visits.items()
    }


def main(
    most: Annotated[int, typer.Option(min=1, help="clients at most")] = CLIENTS[-1],
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    json: JsonPath = None,
) -> None:
    """Print and write images a second and latency by the number of clients in a closed loop."""
    with served_bundle() as model_dir, our_service(model_dir) as server:
        visits = in_turn(
            {
                str(clients): partial(visit, server, equal_requests(TURNS * clients), clients)
                for clients in CLIENTS
                if clients <= most
            },
            rounds,
        )
    Console().print(growth_table(visits))
    write_json(json, "growth", figures(visits))


if __name__ == "__main__":
    typer.run(main)
