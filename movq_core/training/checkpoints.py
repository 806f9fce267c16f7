"""Checkpoints of a run: the newest under a name that stays, older ones beside it; and random states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from movq_core.errors import MovqError
from movq_core.training.common import load_checkpoint, save_checkpoint
from movq_core.training.distributed import Ranks


class UnusableCheckpoint(MovqError):
    """A run cannot go on from this file; the sentence says what can be done."""


@dataclass(frozen=True)
class Checkpoints:
    """The `keep` newest of a run, `checkpoint-0000123.pt` by step; `checkpoint.pt` points to the newest."""

    folder: Path
    keep: int = 1

    @property
    def newest(self) -> Path:
        return self.folder / "checkpoint.pt"

    def load(self) -> dict[str, Any] | None:
        """The newest state, or None where the run is to begin; raises UnusableCheckpoint."""
        if not self.newest.exists():
            return None
        state = load_checkpoint(self.newest)
        if isinstance(state.get("torch_rng"), torch.Tensor):  # one generator, of before there were ranks
            raise UnusableCheckpoint(
                f"{self.newest} is of movq 0.1: it can be exported, or begin a run elsewhere by --init, "
                "but this run cannot go on from it; move it away to start anew"
            )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep `state`, then let go of what is too old: a run killed meanwhile has one or the other."""
        path = self.folder / f"checkpoint-{state['step']:07d}.pt"
        save_checkpoint(path, state)
        pointer = self.folder / "checkpoint.link"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(path.name)
        pointer.replace(self.newest)
        for old in sorted(self.folder.glob("checkpoint-*.pt"))[: -self.keep]:
            old.unlink()


def random_states(ranks: Ranks) -> list[dict[str, torch.Tensor]]:
    """Torch's generators on every rank, the CPU's and the device's."""
    mine = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(ranks.device)
    return ranks.gather_objects(mine)


def restore_random_state(states: list[dict[str, torch.Tensor]], ranks: Ranks) -> None:
    """This rank's generators. A rank that was not there when they were saved goes on with what it has."""
    if ranks.rank < len(states):
        mine = states[ranks.rank]
        torch.set_rng_state(mine["cpu"])
        if "cuda" in mine and ranks.device.type == "cuda":
            torch.cuda.set_rng_state(mine["cuda"], ranks.device)
