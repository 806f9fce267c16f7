"""Does one training step of the paper's models fit 24 GiB? `python -m benchmarks.paper_step`.

Each model takes one step at a batch of 1, in float32 on the CPU, in a process of its own. Printed are its
parameters, its codes, the peak of the process's memory and the step's seconds. The tokenizer has its critic,
and no LPIPS.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn

from movq_core.training.encode_dataset import CodeSet
from movq_core.training.recipes import prior_plan, tokenizer_plan
from movq_core.training.train_maskgit import PriorBatches, PriorTrainer
from movq_core.training.train_movq import TokenizerTrainer

SMALL = ["batch_size=1", "accumulate=1", "precision=float32", "compile=false", "disc_start=0"]
LIMIT_GIB = 24


@dataclass(frozen=True)
class Noise:
    """A batch of one image of noise."""

    size: int
    batch_size: int = 1

    def draw(self, rng: np.random.Generator, part: slice) -> Tensor:
        pixels = rng.uniform(-1.0, 1.0, (1, 3, self.size, self.size)).astype(np.float32)
        return torch.from_numpy(pixels)[part]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: it has no position."""


def tokenizer_step() -> None:
    """movq-256: 256x256 pixels, 16x16x4 codes."""
    plan = tokenizer_plan("imagenet-256", [*SMALL, "perceptual=0", "start_batches=1"])
    trainer = TokenizerTrainer(plan.model, plan, Noise(plan.model.image_size))
    trainer.start_codebook()
    report("tokenizer", trainer.movq, trainer.train_step)
    with torch.inference_mode():
        codes = trainer.movq.encode_codes(trainer.batches.draw(np.random.default_rng(1), slice(1)))
    print(f"  codes {tuple(codes.shape)}, {int(codes.min())} to {int(codes.max())}")


def prior_step(kind: str) -> None:
    """imagenet-256: 307 M parameters over 1024 codes."""
    plan = prior_plan("imagenet-256", [*SMALL[:-1], f"kind={kind}"])
    config = plan.model
    shape = (1, 1, config.code_channels, config.grid_size, config.grid_size)
    codes = np.random.default_rng(0).integers(0, config.codebook_size, shape).astype(np.int16)
    batches = PriorBatches(CodeSet(codes, np.zeros(1, np.int64), np.array(["noise"])), 1)
    trainer = PriorTrainer(config, plan, batches)
    report(f"{kind} prior", trainer.prior, trainer.train_step)
    print(f"  codes {tuple(codes.shape[1:])}, {codes.min()} to {codes.max()}")


def report(name: str, model: nn.Module, step: Callable[[], dict[str, float]]) -> None:
    """Take the step and print what it took."""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    started = time.perf_counter()
    figures = step()
    seconds = time.perf_counter() - started
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    verdict = "fits" if gib < LIMIT_GIB else "does not fit"
    print(f"{name}: {millions:.1f} M parameters, loss {figures['loss']:.3f}, {seconds:.0f} s")
    print(f"  peak {gib:.1f} GiB: {verdict} {LIMIT_GIB} GiB")


STEPS: dict[str, Callable[[], None]] = {
    "tokenizer": tokenizer_step,
    "masked": lambda: prior_step("masked"),
    "autoregressive": lambda: prior_step("autoregressive"),
}


def main(model: Annotated[str, typer.Argument(help=f"one of {', '.join(STEPS)}; none: all")] = "") -> None:
    """Take the step of one model here, or of each in its own process."""
    if model:
        STEPS[model]()
        return
    for name in STEPS:
        subprocess.run([sys.executable, "-m", "benchmarks.paper_step", name], check=True)  # noqa: S603 - ours


if __name__ == "__main__":
    typer.run(main)
