"""`python -m tests.chaos.table [WORD ...]`: every fault, or those whose names hold a word, as a table."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from movq_core.bundle import ModelBundle
from service.job import Status
from tests.chaos.faults import FAULTS
from tests.chaos.house import House, Plan
from tests.chaos.oracle import Oracle
from tests.chaos.trial import Fault, Finding, try_fault
from worker.fakes import TINY

HEAD = (
    "| fault | accepted | succeeded | failed (by design) | cancelled | ran again | lost | recovered, s |\n"
    "|---|---|---|---|---|---|---|---|"
)


@contextmanager
def scratch(device: str = "cpu") -> Iterator[tuple[Path, Oracle]]:
    """A folder with a bundle in it, and what the bundle's requests give."""
    folder = Path(tempfile.mkdtemp(prefix="movq-chaos-"))
    try:
        ModelBundle.random(TINY).save(folder / "bundle")
        yield folder, Oracle(folder / "bundle", device)
    finally:
        shutil.rmtree(folder)


@contextmanager
def opened(folder: Path, bundle: Path, plan: Plan) -> Iterator[House]:
    house = House(folder, bundle, plan)
    try:
        house.open()
        yield house
    finally:
        house.close()


def row(finding: Finding) -> str:
    """Of the table."""
    verdict = finding.verdict
    failed = verdict.ended[Status.FAILED]
    cells = [
        finding.fault.name,
        verdict.accepted,
        verdict.ended[Status.SUCCEEDED],
        f"{failed} ({finding.fault.failures})",
        verdict.ended[Status.CANCELLED],
        verdict.ran_again,
        verdict.lost,
        f"{finding.recovered_s:.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main(words: Sequence[str]) -> int:
    """The number of faults that broke a promise."""
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    broken = 0
    print(HEAD, flush=True)
    with scratch() as (folder, oracle):
        for number, (plan, faults) in enumerate(_by_plan(chosen)):
            with opened(folder / f"house{number}", folder / "bundle", plan) as house:
                for fault in faults:
                    broken += not _told(try_fault(fault, house, oracle))
    return broken


def _told(finding: Finding) -> bool:
    """Print it; whether all promises were kept."""
    print(row(finding), flush=True)
    for sentence in finding.broken[:20]:
        print(f"  BROKEN: {sentence}", file=sys.stderr, flush=True)
    return not finding.broken


def _by_plan(faults: Sequence[Fault]) -> list[tuple[Plan, list[Fault]]]:
    """One house for all that need the same."""
    groups: list[tuple[Plan, list[Fault]]] = []
    for fault in faults:
        for plan, group in groups:
            if plan == fault.plan:
                group.append(fault)
                break
        else:
            groups.append((fault.plan, [fault]))
    return groups


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
