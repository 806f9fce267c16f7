"""Trial: one fault in one house under load, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice

from service.job import Status
from tests.chaos.house import House, Plan, Resident, until
from tests.chaos.ledger import Ledger
from tests.chaos.oracle import Oracle
from tests.chaos.proxy import Proxy
from tests.chaos.verdict import Verdict, is_over, judge
from tests.chaos.wishes import Wish, wishes

IN_FLIGHT = 6
OVER_WITHIN_S = 150.0


@dataclass(frozen=True)
class Scene:
    """Where a fault happens; of several workers it meets one."""

    house: House
    ledger: Ledger
    number: int = 0

    @property
    def worker(self) -> Resident:
        return self.house.workers[self.number]

    @property
    def proxy(self) -> Proxy:
        """The worker's way to Redis."""
        return self.house.proxies[self.number]


Act = Callable[[Scene], AbstractContextManager[None]]  # its block is the time that the fault lasts
Fill = Callable[[], Iterator[Wish]]


def usual() -> Iterator[Wish]:
    return islice(wishes(seed=1, longest_steps=48), 40)


@dataclass(frozen=True)
class Fault:
    """`act`'s block begins and ends it; it lasts for `held_s` while custom goes on.

    `failures`: how many jobs it fails by design. `fill`: what is asked for before it begins.
    """

    name: str
    act: Act
    held_s: float = 0.0
    plan: Plan = field(default_factory=Plan)
    fill: Fill = usual
    failures: int = 0
    runs_again: bool = True  # whether it may cost a job a retry
    in_flight: int = IN_FLIGHT


@dataclass(frozen=True)
class Finding:
    """What a trial has shown; `recovered_s`: from the fault's end until all that was accepted was over."""

    fault: Fault
    verdict: Verdict
    recovered_s: float

    @property
    def broken(self) -> list[str]:
        """A sentence for each promise that was not kept."""
        fault, verdict = self.fault, self.verdict
        broken = list(verdict.broken)
        if verdict.ended[Status.FAILED] != fault.failures:
            broken.append(f"{verdict.ended[Status.FAILED]} jobs failed, not {fault.failures}")
        if verdict.ran_again and not fault.runs_again:
            broken.append(f"{verdict.ran_again} jobs ran again for nothing")
        return broken


def try_fault(fault: Fault, house: House, oracle: Oracle) -> Finding:
    """Load, the fault with custom meanwhile, its end, and everything over."""
    ledger = Ledger(house)
    try:
        house.client.flushall()
        asked = ledger.ask_all(fault.fill())
        until(lambda: house.in_flight() >= fault.in_flight, 30, f"{fault.in_flight} jobs in flight")
        with ledger.custom(wishes(seed=2)):
            with fault.act(Scene(house, ledger)):
                time.sleep(fault.held_s)
            ended_s = time.monotonic()
        for future in asked:
            future.result(OVER_WITHIN_S)
        until(lambda: is_over(house, ledger), OVER_WITHIN_S, f"all is over after: {fault.name}")
        recovered_s = time.monotonic() - ended_s
        house.wait_until_ready()
        return Finding(fault, judge(house, ledger, oracle), recovered_s)
    finally:
        ledger.close()
