"""Train the masked prior on cached codes: `python -m movq_core.training.train_maskgit --help`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from movq_core.bundle import ModelBundle
from movq_core.config import MASKGIT_PRESETS, MaskGITConfig
from movq_core.models.losses import masked_code_loss
from movq_core.models.maskgit import MaskGIT
from movq_core.params import MaskSchedule, SamplingParams
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.schedule import mask_ratio
from movq_core.training.common import (
    WeightEMA,
    image_grid,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
)
from movq_core.training.data import base_weights
from movq_core.training.encode_dataset import CodeSet, load_codes
from movq_core.training.evaluate import masked_nll
from movq_core.training.export import DEMO_SAMPLING


class PriorRecipe(BaseModel):
    """How a prior is trained; saved in its checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = 11_000
    batch_size: int = 16
    peak_rate: float = 6e-4
    warmup: int = 300
    clip_norm: float = 1.0
    weight_decay: float = 0.045
    ema_decay: float = 0.999
    label_smoothing: float = 0.1
    visible_weight: float = 0.1
    class_dropout: float = 0.1
    mask_schedule: MaskSchedule = MaskSchedule.COSINE
    seed: int = 0


@dataclass(frozen=True)
class PriorBatches:
    """Codes and classes: bases equally often within a class, classes by the square root of their bases."""

    codes: CodeSet
    batch_size: int

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        weights = np.zeros(len(self.codes.classes))
        for class_id in np.unique(self.codes.classes):
            members = self.codes.classes == class_id
            bases = self.codes.bases[members]
            weights[members] = base_weights(bases) * np.sqrt(len(np.unique(bases)))
        return weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """codes (B, C, H, W) and class ids (B,), both int64."""
        chosen = rng.choice(len(self.weights), self.batch_size, p=self.weights)
        version = rng.integers(0, self.codes.codes.shape[1], self.batch_size)
        codes = self.codes.codes[chosen, version].astype(np.int64)
        return torch.from_numpy(codes), torch.from_numpy(self.codes.classes[chosen])


def draw_mask(shape: torch.Size, schedule: MaskSchedule, rng: np.random.Generator) -> Tensor:
    """Entries (B, C, H, W) to mask: each (position, channel) on its own, a ratio a row, at least one."""
    ratios = torch.tensor([mask_ratio(schedule, float(rng.random())) for _ in range(shape[0])])
    noise = torch.from_numpy(rng.random((shape[0], shape[1:].numel()), np.float32))
    counts = (ratios * noise.shape[1]).round().clamp(min=1.0)
    return (noise.argsort(1).argsort(1) < counts[:, None]).view(shape)


class PriorTrainer:
    """All that a prior's run owns: model, average, optimiser, generators."""

    def __init__(self, config: MaskGITConfig, recipe: PriorRecipe, batches: PriorBatches) -> None:
        torch.manual_seed(recipe.seed)
        self.config, self.recipe, self.batches = config, recipe, batches
        self.rng = np.random.default_rng(recipe.seed)
        self.step = 0
        self.prior = MaskGIT(config).train()
        self.ema = WeightEMA(self.prior, recipe.ema_decay)
        matrices = [p for p in self.prior.parameters() if p.dim() > 1]
        others = [p for p in self.prior.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.96), foreach=True)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns its figures."""
        recipe = self.recipe
        codes, classes = self.batches.draw(self.rng)
        masked = draw_mask(codes.shape, recipe.mask_schedule, self.rng)
        dropped = torch.from_numpy(self.rng.random(len(classes)) < recipe.class_dropout)
        classes = torch.where(dropped, self.prior.null_class, classes)
        logits = self.prior(torch.where(masked, self.prior.mask_code, codes), classes)
        loss = masked_code_loss(logits, codes, masked, recipe.label_smoothing, recipe.visible_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.prior.parameters(), recipe.clip_norm)
        rate = learning_rate(self.step, recipe.steps, recipe.peak_rate, recipe.warmup)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.ema.update(self.prior, self.step)
        self.step += 1
        return {"loss": loss.item(), "grad_norm": norm.item(), "rate": rate}

    def state_dict(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "maskgit": self.prior.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.prior.load_state_dict(state["maskgit"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])


def sample_grid(bundle: ModelBundle, prior: MaskGIT, sampling: SamplingParams, each: int) -> Tensor:
    """`each` samples of every class, a row a class: a picture (3, H, W) in [0, 1]."""
    rows = []
    for class_id in range(prior.config.num_classes):
        picked = [sampling.model_copy(update={"seed": seed}) for seed in range(each)]
        codes = torch.cat([generate_codes(prior, class_id, params) for params in picked])
        rows.append(bundle.movq.decode_codes(codes))
    return image_grid(rows)


def main(
    codes: Annotated[Path, typer.Option(help="folder of encode_dataset")] = Path("data/emoji-64/codes"),
    bundle: Annotated[Path, typer.Option(help="the tokenizer's, to show samples")] = Path("models/emoji-64"),
    out: Annotated[Path, typer.Option(help="checkpoint and TensorBoard")] = Path("runs/maskgit"),
    preset: Annotated[str, typer.Option(help=f"one of {', '.join(MASKGIT_PRESETS)}")] = "emoji-64",
    steps: Annotated[int, typer.Option(min=1)] = PriorRecipe().steps,
    batch_size: Annotated[int, typer.Option(min=1)] = PriorRecipe().batch_size,
    peak_rate: Annotated[float, typer.Option(min=0.0)] = PriorRecipe().peak_rate,
    seed: int = 0,
    evaluate_every: Annotated[int, typer.Option(min=1)] = 1000,
) -> None:
    """Train, or go on from the checkpoint in `out`; ends at `steps` with `out/checkpoint.pt`."""
    recipe = PriorRecipe(steps=steps, batch_size=batch_size, peak_rate=peak_rate, seed=seed)
    batches = PriorBatches(load_codes(codes / "train.npz"), batch_size)
    trainer = PriorTrainer(MASKGIT_PRESETS[preset], recipe, batches)
    if (out / "checkpoint.pt").exists():
        trainer.load_state_dict(load_checkpoint(out / "checkpoint.pt"))
    run(trainer, load_codes(codes / "heldout.npz"), ModelBundle.load(bundle), out, evaluate_every)


def run(
    trainer: PriorTrainer, held_out: CodeSet, bundle: ModelBundle, out: Path, evaluate_every: int
) -> None:
    """The loop: step, log, evaluate, save."""
    writer = SummaryWriter(str(out / "tensorboard"))
    started = time.monotonic()
    sampling = DEMO_SAMPLING
    with Progress() as progress:
        bar = progress.add_task("prior", total=trainer.recipe.steps, completed=trainer.step)
        while trainer.step < trainer.recipe.steps:
            figures = trainer.train_step()
            progress.update(bar, completed=trainer.step, description=f"loss {figures['loss']:.3f}")
            if trainer.step % 50 == 0:
                for name, value in figures.items():
                    writer.add_scalar(f"train/{name}", value, trainer.step)
            if trainer.step % evaluate_every == 0 or trainer.step == trainer.recipe.steps:
                save_checkpoint(out / "checkpoint.pt", trainer.state_dict())
                prior = trainer.ema.module
                nll = masked_nll(prior, held_out)
                writer.add_scalar("heldout/nll", nll, trainer.step)
                writer.add_image("samples", sample_grid(bundle, prior, sampling, each=8), trainer.step)
                minutes = (time.monotonic() - started) / 60
                progress.console.print(f"step {trainer.step}  {minutes:.1f} min  held-out NLL {nll:.3f}")
    writer.close()


if __name__ == "__main__":
    typer.run(main)
