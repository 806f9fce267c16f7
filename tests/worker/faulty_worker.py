"""`python -m tests.worker.faulty_worker FAULT`: the real worker process on a device that has a fault."""

from __future__ import annotations

import sys
import time

import worker.__main__ as process
from movq_core.errors import DeviceFault
from worker.fakes import FakeRunner


def fault(seeds: list[int]) -> None:
    """Seed 13 meets the fault; the others take their steps slowly."""
    time.sleep(0.02)
    if 13 in seeds:
        if sys.argv[1] == "device":
            raise DeviceFault("an illegal memory access was encountered")
        time.sleep(3600)


if __name__ == "__main__":
    process.ModelRunner = lambda *_, **__: FakeRunner(fault)  # type: ignore[assignment, misc]
    sys.exit(process.main())
