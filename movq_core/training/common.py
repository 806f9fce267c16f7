"""What the training scripts share: weight averages, learning rates, checkpoint files, grids of images."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class WeightEMA(Generic[M]):
    """A running average of a module's parameters; `module` is the averaged copy, to evaluate and ship.

    The decay warms up, so that the first thousand steps do not remember the initial weights.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: M, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.module.parameters(), module.parameters(), strict=True):
            average.lerp_(current, 1.0 - decay)
        for kept, fresh in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(fresh)


def learning_rate(
    step: int, total: int, peak: float, warmup: int, floor: float = 0.02, schedule: str = "cosine"
) -> float:
    """Linear warm-up, then from `peak` to `floor * peak` at `total`: "cosine", "linear", or "constant"."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    left = {
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "linear": 1.0 - progress,
        "constant": 1.0,
    }
    return peak * (floor + (1.0 - floor) * left[schedule])


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Written aside and moved: a run killed while it saves keeps its last checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    torch.save(state, aside)
    aside.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors, numbers and strings only: a checkpoint cannot run code."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def image_grid(rows: list[Tensor], scale: int = 1) -> Tensor:
    """Rows of images, each (N, 3, h, w) in [-1, 1], as one picture (3, H, W) in [0, 1]."""
    lines = [torch.cat(list(row), dim=-1) for row in rows]
    picture = torch.cat(lines, dim=-2).clamp(-1.0, 1.0).add(1.0).div(2.0)
    return picture.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
