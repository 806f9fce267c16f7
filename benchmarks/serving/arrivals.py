"""Continuous batching where it matters: requests of 4 to 24 steps that arrive when they like.

`python -m benchmarks.serving.arrivals`: Poisson arrivals, an open loop, at 80 % of what we can do; ours, and
LitServe with static batches of the same model, in turn and with the same arrivals. Goodput counts the answers
that came within three times what the bare loop takes for a lone request of as many steps.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from benchmarks.measuring import JsonPath, in_turn, show, versions, write_json
from benchmarks.serving.bundle import served_bundle
from benchmarks.serving.deadlines import Deadlines
from benchmarks.serving.raw_model import RawModel
from benchmarks.serving.requests import (
    FEWEST_STEPS,
    MOST_STEPS,
    Requests,
    mixed_requests,
    poisson_arrivals,
)
from benchmarks.serving.servers import Server, litserve, our_service
from benchmarks.serving.visit import Visit, visit

SATURATING_CLIENTS = 32  # twice our rows, and twice LitServe's largest batch


@dataclass(frozen=True)
class Arrivals:
    """One round's requests, and the second of each."""

    requests: Requests
    at_s: list[float]

    @classmethod
    def draw(cls, count: int, a_second: float, seed: int) -> Arrivals:
        return cls(mixed_requests(count, seed), poisson_arrivals(count, a_second, seed))


def capacity(server: Server, requests: Requests) -> float:
    """Images a second of a server that never lacks a request."""
    return visit(server, requests, SATURATING_CLIENTS).images_a_second


def visits_of(server: Server, rounds: list[Arrivals]) -> Callable[[], Visit]:
    """A case for `in_turn`: the next of the rounds at each call."""
    turns = iter(rounds)

    def case() -> Visit:
        arrivals = next(turns)
        return visit(server, arrivals.requests, arrivals_s=arrivals.at_s)

    return case


@dataclass(frozen=True)
class Outcome:
    """What one server made of all rounds."""

    capacity: float  # images a second
    goodput: float  # images a second within their deadlines
    good_share: float
    p50_s: float
    p95_s: float

    @classmethod
    def of(
        cls, visits: list[Visit], rounds: list[Arrivals], deadlines: Deadlines, capacity: float
    ) -> Outcome:
        answers = [answer for v in visits for answer in v.answers]
        good = sum(deadlines.is_good(answer) for answer in answers)
        p50_s, p95_s = np.quantile([answer.took_s for answer in answers], (0.5, 0.95))
        lasted_s = sum(arrivals.at_s[-1] for arrivals in rounds)
        return cls(capacity, good / lasted_s, good / len(answers), float(p50_s), float(p95_s))


def arrivals_table(outcomes: dict[str, Outcome], title: str) -> Table:
    ours, *_ = outcomes.values()
    table = Table("", "capacity, images/s", "in time", "goodput, images/s", "ours by theirs",
                  "p50, s", "p95, s", "ours by theirs", title=title)  # fmt: skip
    for name, outcome in outcomes.items():
        table.add_row(
            name, f"{outcome.capacity:.2f}", f"{outcome.good_share:.0%}",
            f"{outcome.goodput:.2f}", f"{ours.goodput / max(outcome.goodput, 1e-9):.2f}x",
            f"{outcome.p50_s:.2f}", f"{outcome.p95_s:.2f}", f"{ours.p95_s / outcome.p95_s:.2f}x",
        )  # fmt: skip
    return table


def main(
    load: Annotated[float, typer.Option(min=0.1, max=1.5, help="arrivals, as a share of our capacity")] = 0.8,
    images: Annotated[int, typer.Option(min=1, help="requests a round")] = 60,
    rounds: Annotated[int, typer.Option(min=1)] = 2,
    json: JsonPath = None,
) -> None:
    """Print and write goodput and latency of ours and of LitServe."""
    with ExitStack() as stack:
        model_dir = stack.enter_context(served_bundle())
        deadlines = Deadlines.measure(RawModel(model_dir), rounds=3)
        starts = (our_service, litserve, partial(litserve, leave_early=True))
        servers = [stack.enter_context(start(model_dir)) for start in starts]
        capacities = {server.name: capacity(server, mixed_requests(images, seed=99)) for server in servers}
        a_second = load * capacities[servers[0].name]
        drawn = [Arrivals.draw(images, a_second, seed) for seed in range(rounds)]
        visits = in_turn({server.name: visits_of(server, drawn) for server in servers}, rounds)
    outcomes = {name: Outcome.of(done, drawn, deadlines, capacities[name]) for name, done in visits.items()}
    title = (
        f"{images} requests of {FEWEST_STEPS} to {MOST_STEPS} steps a round, {a_second:.2f} a second; "
        f"in time: {deadlines.of(FEWEST_STEPS):.2f} to {deadlines.of(MOST_STEPS):.2f} s"
    )
    peers = versions(["litserve"])
    show(arrivals_table(outcomes, title), f"peer: {peers}")
    figures = {"deadlines": deadlines, "a_second": a_second, "servers": outcomes, "peers": peers}
    write_json(json, "arrivals", figures)


if __name__ == "__main__":
    typer.run(main)
