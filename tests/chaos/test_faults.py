"""Nothing that was accepted is lost, whatever is done to the house. `-m chaos` has the other faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from service.job import Status
from tests.chaos.faults import FAULTS, QUICK
from tests.chaos.house import House, Plan
from tests.chaos.table import opened, scratch
from tests.chaos.trial import Fault, try_fault

pytestmark = pytest.mark.slow
Open = Callable[[Plan], House]


@pytest.fixture(scope="module")
def lab() -> Iterator[tuple]:
    """A bundle's folder, its oracle, and houses by plan: one house for all faults that need the same."""
    with scratch() as (folder, oracle), ExitStack() as stack:
        houses: list[House] = []

        def open_house(plan: Plan) -> House:
            found = next((house for house in houses if house.plan == plan), None)
            if found is None:
                found = stack.enter_context(opened(folder / f"house{len(houses)}", folder / "bundle", plan))
                houses.append(found)
            return found

        yield open_house, oracle


def case(fault: Fault) -> object:
    marks = () if fault in QUICK else (pytest.mark.chaos,)
    return pytest.param(fault, id=fault.name, marks=marks)


@pytest.mark.parametrize("fault", [case(fault) for fault in FAULTS])
def test_every_promise_is_kept(lab: tuple, fault: Fault) -> None:
    open_house, oracle = lab
    finding = try_fault(fault, open_house(fault.plan), oracle)
    print(f"\n{fault.name}: {finding.verdict.accepted} accepted, recovered in {finding.recovered_s:.1f} s")
    assert not finding.broken, finding.broken[:20]
    assert finding.verdict.lost == 0
    assert finding.verdict.ended[Status.FAILED] == fault.failures
