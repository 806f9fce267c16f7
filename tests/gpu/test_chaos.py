"""A whole house on CUDA: nothing is lost, and results are those of a quiet house to the byte.

Needs the packages of `movq[local]`; skipped without a GPU.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from tests.chaos.faults import all_workers_killed, cursed, worker_frozen, worker_killed
from tests.chaos.house import LEASE_S, House, Plan
from tests.chaos.oracle import Oracle
from tests.chaos.table import opened, scratch
from tests.chaos.trial import Fault, try_fault
from tests.chaos.wishes import Wish, wishes

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

PLAN = Plan(device="cuda", cursed=True)


def much() -> Iterator[Wish]:
    """A card would be through with the usual load before anything happens."""
    return islice(wishes(seed=1, longest_steps=64), 200)


FAULTS = [
    Fault("worker killed (kill -9)", worker_killed, fill=much, plan=PLAN),
    Fault("all workers killed (kill -9)", all_workers_killed, held_s=2, fill=much, plan=PLAN),
    Fault("a CUDA fault, a real one", cursed("device"), fill=much, plan=PLAN),
    Fault("one worker frozen (SIGSTOP)", worker_frozen, held_s=LEASE_S + 3, fill=much, plan=PLAN),
]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Path, Oracle]]:
    with scratch("cuda") as (folder, oracle):
        yield folder, oracle


@pytest.fixture(scope="module")
def house(place: tuple[Path, Oracle]) -> Iterator[House]:
    folder, _ = place
    with opened(folder / "house", folder / "bundle", PLAN) as house:
        yield house


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_promise_is_kept(house: House, place: tuple[Path, Oracle], fault: Fault) -> None:
    _, oracle = place
    before = [worker.starts for worker in house.workers]
    finding = try_fault(fault, house, oracle)
    print(f"\n{fault.name}: {finding.verdict.accepted} accepted, recovered in {finding.recovered_s:.1f} s")
    assert not finding.broken, finding.broken[:20]
    if "CUDA" in fault.name:
        logs = "".join(worker.log() for worker in house.workers)
        assert "device-side assert" in logs or "CUDA error" in logs
        assert [worker.starts for worker in house.workers] != before, "who has met a fault does not go on"
