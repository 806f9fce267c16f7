"""Train a prior on cached codes, masked or autoregressive: `python -m movq_core.training.train_maskgit`.

Under `torchrun --nproc-per-node N -m movq_core.training.train_maskgit` on N GPUs, or N processes of a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from movq_core.bundle import ModelBundle
from movq_core.config import AutoregressiveConfig, MaskGITConfig
from movq_core.errors import MovqError
from movq_core.models.autoregressive import Autoregressive
from movq_core.models.losses import masked_code_loss
from movq_core.models.maskgit import MaskGIT
from movq_core.params import MaskSchedule
from movq_core.sampling.autoregressive import generate_in_order
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.schedule import mask_ratio
from movq_core.training.checkpoints import Checkpoints, random_states, restore_random_state
from movq_core.training.common import WeightEMA, image_grid, learning_rate
from movq_core.training.data import base_weights
from movq_core.training.distributed import Ranks
from movq_core.training.encode_dataset import CodeSet, load_codes
from movq_core.training.evaluate import code_nll, masked_nll
from movq_core.training.export import DEMO_SAMPLING
from movq_core.training.learner import Learner, prepare_blocks
from movq_core.training.loop import mean_figures, run
from movq_core.training.recipes import PriorRecipe, prior_plan, recipe_names, save_plan

Prior = MaskGIT | Autoregressive

SAMPLED_CLASSES = 16  # rows of the grid of samples


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

    def draw(self, rng: np.random.Generator, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Rows `part` of a batch: codes (n, C, H, W) and class ids (n,), both int64."""
        chosen = rng.choice(len(self.weights), self.batch_size, p=self.weights)
        version = rng.integers(0, self.codes.codes.shape[1], self.batch_size)
        codes = self.codes.codes[chosen[part], version[part]].astype(np.int64)
        return torch.from_numpy(codes), torch.from_numpy(self.codes.classes[chosen[part]])


def draw_mask(shape: tuple[int, ...], schedule: MaskSchedule, rng: np.random.Generator) -> Tensor:
    """Entries (B, C, H, W) to mask: each (position, channel) on its own, a ratio a row, at least one."""
    ratios = torch.tensor([mask_ratio(schedule, float(rng.random())) for _ in range(shape[0])])
    noise = torch.from_numpy(rng.random((shape[0], math.prod(shape[1:])), np.float32))
    counts = (ratios * noise.shape[1]).round().clamp(min=1.0)
    return (noise.argsort(1).argsort(1) < counts[:, None]).view(shape)


@dataclass(frozen=True)
class MicroBatch:
    """Codes (n, C, H, W), which of them are asked for, classes (n,), and its `share` of the step's loss."""

    codes: Tensor
    asked: Tensor
    classes: Tensor
    share: float


class PriorTrainer:
    """All that a prior's run owns: model, average, optimiser, generators. The config says which prior."""

    def __init__(
        self,
        config: MaskGITConfig | AutoregressiveConfig,
        recipe: PriorRecipe,
        batches: PriorBatches,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.recipe, self.batches, self.ranks = config, recipe, batches, ranks or Ranks()
        recipe.check_divides(self.ranks.count)
        torch.manual_seed(recipe.seed)
        self.rng = np.random.default_rng(recipe.seed)
        self.step = 0
        prior: Prior = MaskGIT(config) if isinstance(config, MaskGITConfig) else Autoregressive(config)
        self.prior = prior.to(self.ranks.device).train()
        self.ema = WeightEMA(self.prior, recipe.ema_decay)
        self.learner = self._learner(recipe)
        if not self.ranks.is_first:
            torch.manual_seed(recipe.seed + self.ranks.rank)  # the same dropout on all ranks would teach less

    def _learner(self, recipe: PriorRecipe) -> Learner:
        prepare_blocks(self.prior, recipe)
        matrices = [p for p in self.prior.parameters() if p.dim() > 1]
        others = [p for p in self.prior.parameters() if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0},
        ]
        optimizer = torch.optim.AdamW(groups, betas=recipe.betas, foreach=True)
        return Learner(self.prior, optimizer, recipe, self.ranks)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns its figures, means over the whole batch."""
        micro_batches = self._draw()
        losses = [self._backward(part, part is micro_batches[-1]) for part in micro_batches]
        recipe = self.recipe
        rate = learning_rate(
            self.step, recipe.steps, recipe.peak_rate, recipe.warmup, schedule=recipe.schedule
        )
        norm = self.learner.step(rate)
        self.ema.update(self.prior, self.step)
        self.step += 1
        figures = mean_figures([{"loss": torch.stack(losses).sum()}], self.ranks)
        return {**figures, "grad_norm": norm, "rate": rate}

    def _draw(self) -> list[MicroBatch]:
        """This rank's part of the next batch; all ranks' masks are drawn, as the loss is a mean over them."""
        recipe, size = self.recipe, self.batches.batch_size
        part = self.ranks.part(size)
        codes, classes = self.batches.draw(self.rng, part)
        asked = torch.ones((size, *codes.shape[1:]), dtype=torch.bool)
        if isinstance(self.prior, MaskGIT):
            asked = draw_mask((size, *codes.shape[1:]), recipe.mask_schedule, self.rng)
        dropped = torch.from_numpy(self.rng.random(size) < recipe.class_dropout)
        classes = torch.where(dropped[part], self.prior.null_class, classes)
        mine = (t.to(self.ranks.device).chunk(recipe.accumulate) for t in (codes, asked[part], classes))
        pieces = zip(*mine, strict=True)
        whole = self._weight(asked) / self.ranks.count  # DDP takes the mean over the ranks
        return [MicroBatch(c, a, k, self._weight(a) / whole) for c, a, k in pieces]

    def _weight(self, asked: Tensor) -> float:
        """What codes weigh in the loss together."""
        count = int(asked.sum())
        return count + self.recipe.visible_weight * (asked.numel() - count)

    def _backward(self, batch: MicroBatch, last: bool) -> Tensor:
        """Add a micro-batch's gradient; returns its part of the loss."""
        recipe, seen = self.recipe, batch.codes
        if isinstance(self.prior, MaskGIT):
            seen = torch.where(batch.asked, self.prior.mask_code, batch.codes)
        with self.learner.gathering(last):
            logits = self.learner(seen, batch.classes).float()
            loss = batch.share * masked_code_loss(
                logits, batch.codes, batch.asked, recipe.label_smoothing, recipe.visible_weight
            )
            loss.backward()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on. Every rank calls it; the first one's is whole."""
        return {
            "config": self.config.model_dump(mode="json"),
            "kind": "masked" if isinstance(self.prior, MaskGIT) else "autoregressive",
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "prior": self.prior.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": random_states(self.ranks),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.prior.load_state_dict(state["prior"])
        self.ema.module.load_state_dict(state["ema"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        restore_random_state(state["torch_rng"], self.ranks)


def sample(prior: Prior, class_id: int, count: int) -> Tensor:
    """Codes (count, C, H, W) of a class, seeds 0 and up; as the demo is sampled."""
    sampling = DEMO_SAMPLING
    if isinstance(prior, MaskGIT):
        picked = [sampling.model_copy(update={"seed": seed}) for seed in range(count)]
        return torch.cat([generate_codes(prior, class_id, params) for params in picked])
    seeds = torch.arange(count, device=prior.place.device)
    classes = torch.full_like(seeds, class_id)
    return generate_in_order(prior, classes, seeds, guidance_scale=sampling.guidance_scale)


def sample_grid(bundle: ModelBundle, prior: Prior, each: int) -> Tensor:
    """`each` samples of some classes, a row a class: a picture (3, H, W) in [0, 1]."""
    classes = range(prior.config.num_classes)[:SAMPLED_CLASSES] or [prior.null_class]
    return image_grid([bundle.movq.decode_codes(sample(prior, class_id, each)) for class_id in classes])


@dataclass(frozen=True)
class HeldOutCodes:
    """Held-out codes, perhaps none, and what is logged about the averaged prior."""

    prior: Prior
    codes: CodeSet | None
    bundle: ModelBundle

    def evaluate(self, writer: SummaryWriter, step: int) -> str:
        """Write the likelihood and a grid of samples to TensorBoard; returns a line for the terminal."""
        writer.add_image("samples", sample_grid(self.bundle, self.prior, each=8), step)
        if self.codes is None:
            return "no held-out codes"
        prior = self.prior
        nll = masked_nll(prior, self.codes) if isinstance(prior, MaskGIT) else code_nll(prior, self.codes)
        writer.add_scalar("heldout/nll", nll, step)
        return f"held-out NLL {nll:.3f}"


def main(
    codes: Annotated[Path, typer.Option(help="folder of encode_dataset")] = Path("data/emoji-64/codes"),
    bundle: Annotated[Path, typer.Option(help="the tokenizer's, to show samples")] = Path("models/emoji-64"),
    out: Annotated[Path, typer.Option(help="checkpoints, config.yaml, TensorBoard")] = Path("runs/maskgit"),
    recipe: Annotated[
        str, typer.Option(help=f"a file.yaml, or one of {', '.join(recipe_names('prior'))}")
    ] = "emoji-64",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; may be repeated")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Train, or go on from the newest checkpoint in `out`; ends with `out/checkpoint.pt`."""
    ranks = Ranks.join(device)
    try:
        plan = prior_plan(recipe, changes or ())
        batches = PriorBatches(load_codes(codes / "train.npz"), plan.batch_size)
        trainer = PriorTrainer(plan.model, plan, batches, ranks)
        state = Checkpoints(out).load()
    except MovqError as error:
        raise typer.BadParameter(str(error)) from error
    if state is not None:
        trainer.load_state_dict(state)
    if ranks.is_first:
        save_plan(plan, out / "config.yaml")
    held_out = load_codes(codes / "heldout.npz") if (codes / "heldout.npz").exists() else None
    shown = ModelBundle.load(bundle, str(ranks.device))
    run(trainer, HeldOutCodes(trainer.ema.module, held_out, shown).evaluate, out)
    ranks.leave()


if __name__ == "__main__":
    typer.run(main)
