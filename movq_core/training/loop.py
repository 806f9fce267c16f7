"""The loop of a run: step, show, log, save, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from movq_core.training.checkpoints import Checkpoints
from movq_core.training.distributed import Ranks
from movq_core.training.recipes import Recipe

Evaluate = Callable[[SummaryWriter, int], str]
"""Log about held-out data at a step; returns a line for the terminal."""


class Trainer(Protocol):
    """What the loop drives."""

    step: int

    @property
    def recipe(self) -> Recipe: ...

    @property
    def ranks(self) -> Ranks: ...

    def train_step(self) -> dict[str, float]:
        """One optimiser step; its figures by name, `loss` among them."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on; every rank calls it."""
        ...


def mean_figures(parts: Sequence[dict[str, Tensor]], ranks: Ranks) -> dict[str, float]:
    """Means of scalars, by name, over micro-batches and ranks: sent in one piece."""
    names = list(parts[0])
    values = torch.stack([torch.stack([part[name] for part in parts]).mean() for name in names])
    return dict(zip(names, ranks.mean(values).tolist(), strict=True))


class Stopwatch:
    """Images a second of the training steps alone, between two looks at it."""

    def __init__(self, images_a_step: int) -> None:
        self._images_a_step = images_a_step
        self._steps, self._seconds = 0, 0.0

    def time(self, train_step: Callable[[], dict[str, float]]) -> dict[str, float]:
        started = time.perf_counter()
        figures = train_step()
        self._seconds += time.perf_counter() - started
        self._steps += 1
        return figures

    def read(self) -> float:
        speed = self._steps * self._images_a_step / max(self._seconds, 1e-9)
        self._steps, self._seconds = 0, 0.0
        return speed


def run(trainer: Trainer, evaluate: Evaluate, out: Path) -> None:
    """Train to the recipe's last step. All ranks step; the first one shows, logs, saves and evaluates."""
    if not trainer.ranks.is_first:
        _follow(trainer)
        return
    recipe, checkpoints = trainer.recipe, Checkpoints(out, trainer.recipe.keep_last)
    stopwatch, started = Stopwatch(recipe.batch_size), time.monotonic()
    with SummaryWriter(str(out / "tensorboard")) as writer, _progress() as progress:
        bar = progress.add_task("", total=recipe.steps, completed=trainer.step, speed="")
        while trainer.step < recipe.steps:
            figures = stopwatch.time(trainer.train_step)
            progress.update(bar, completed=trainer.step, description=f"loss {figures['loss']:.3f}")
            if trainer.step % recipe.log_every == 0:
                figures["images_per_s"] = stopwatch.read()
                progress.update(bar, speed=f"{figures['images_per_s']:.1f} images/s")
                for name, value in figures.items():
                    writer.add_scalar(f"train/{name}", value, trainer.step)
            if _pauses(trainer):
                checkpoints.save(trainer.state_dict())
                line = evaluate(writer, trainer.step)
                minutes = (time.monotonic() - started) / 60
                progress.console.print(f"step {trainer.step}  {minutes:.1f} min  {line}")


def _follow(trainer: Trainer) -> None:
    """The loop of the other ranks: the same steps, and their part of every saved state."""
    while trainer.step < trainer.recipe.steps:
        trainer.train_step()
        if _pauses(trainer):
            trainer.state_dict()


def _pauses(trainer: Trainer) -> bool:
    """Whether to save and evaluate after this step: now and then, and at the end."""
    return trainer.step % trainer.recipe.evaluate_every == 0 or trainer.step == trainer.recipe.steps


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
