"""`python -m tests.chaos.cursed_worker`: a real worker whose device meets a fault on seed 13.

The file that CHAOS_CURSE names says which: `device` (a CUDA fault; a real one on CUDA), `stall` (it never
returns), `decode` (the pixels of that image cannot be made), `poison` (it takes the process with it). All but
`poison` and `decode` happen once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import worker.__main__ as process
from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams
from movq_core.tiles import Codes
from worker.model_runner import ModelRunner
from worker.runner import FinishedImage

UNLUCKY_SEED = 13


class CursedRunner(ModelRunner):
    """A ModelRunner, and the file with its curse."""

    curse_path = Path(os.environ.get("CHAOS_CURSE", ""))

    def start(
        self, row: int, class_id: int | None, sampling: SamplingParams, known: Codes | None = None
    ) -> None:
        self._unlucky = getattr(self, "_unlucky", set()) - {row}
        if sampling.seed == UNLUCKY_SEED:
            self._unlucky |= {row}
        super().start(row, class_id, sampling, known)

    def step(self, rows: Sequence[int], steps: Sequence[int]) -> None:
        curse = self._curse(rows)
        if curse in ("device", "stall"):
            self.curse_path.unlink()
        if curse == "device":
            self._break_device()
        if curse == "stall":
            time.sleep(3600)
        if curse == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        super().step(rows, steps)

    def _break_device(self) -> None:
        """On CUDA the kernel reads far beyond a tensor, and whoever asks the device next is told."""
        if self.device.type != "cuda":
            raise DeviceFault("an illegal memory access was encountered")
        far = torch.tensor([2**40], device=self.device)
        torch.zeros(1, device=self.device)[far]

    def finish(self, rows: Sequence[int]) -> list[FinishedImage]:
        if self._curse(rows) == "decode":
            raise RuntimeError("the decoder met a NaN")
        return super().finish(rows)

    def _curse(self, rows: Sequence[int]) -> str:
        if not self._unlucky.intersection(rows) or not self.curse_path.exists():
            return ""
        return self.curse_path.read_text()


if __name__ == "__main__":
    process.ModelRunner = CursedRunner  # type: ignore[misc]
    sys.exit(process.main())
