"""Train the tokenizer: `python -m movq_core.training.train_movq --help`.

L1 + L2 + gradient difference by default; `--disc-weight` adds VQGAN's critic from `--disc-start` on.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from movq_core.config import MOVQ_PRESETS, MoVQConfig
from movq_core.models.discriminator import PatchDiscriminator
from movq_core.models.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
)
from movq_core.models.movq import MoVQ
from movq_core.training.codebook import CodebookEMA
from movq_core.training.common import (
    WeightEMA,
    image_grid,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
)
from movq_core.training.data import (
    TokenizerBatches,
    heldout_emoji,
    heldout_patches,
    load_emoji,
    load_photographs,
)
from movq_core.training.evaluate import evaluate_reconstruction, reconstruct


class TokenizerRecipe(BaseModel):
    """How a tokenizer is trained; saved in its checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = 13_000
    batch_size: int = 8
    peak_rate: float = 1.2e-3
    warmup: int = 100
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 0.5
    commitment: float = 0.25
    codebook_decay: float = 0.99
    disc_weight: float = 0.0
    disc_start: int = 0
    seed: int = 0


class TokenizerTrainer:
    """All that a tokenizer's run owns: model, averages, codebook, critic, optimisers, generator."""

    def __init__(self, config: MoVQConfig, recipe: TokenizerRecipe, batches: TokenizerBatches) -> None:
        torch.manual_seed(recipe.seed)
        self.config, self.recipe, self.batches = config, recipe, batches
        self.rng = np.random.default_rng(recipe.seed)
        self.step = 0
        self.movq = MoVQ(config)
        self.codebook = CodebookEMA(self.movq.quantizer, recipe.codebook_decay)
        self.ema = WeightEMA(self.movq, recipe.ema_decay)
        learnt = [p for p in self.movq.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learnt, betas=(0.9, 0.99), weight_decay=1e-4)
        # Three strided convs, as VQGAN's; an image of 16 pixels is too small for the third.
        layers = min(3, config.image_size.bit_length() - 3)
        self.critic = PatchDiscriminator(layers=layers) if recipe.disc_weight else None
        if self.critic is not None:
            self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.9))

    def start_codebook(self, batches: int = 32) -> None:
        """K-means over the vectors of a few batches of the untrained encoder."""
        with torch.no_grad():
            z = torch.cat([self.movq.encode(self.batches.draw(self.rng)) for _ in range(batches)])
            self.codebook.start(self.movq.quantizer.split(z).flatten(0, -2))

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns its figures."""
        pixels = self.batches.draw(self.rng)
        z = self.movq.encode(pixels)
        quantized = self.movq.quantizer(z)
        reconstructed = self.movq.decode(quantized.z_q)
        recipe = self.recipe
        fidelity = reconstruction_loss(reconstructed, pixels, recipe.l1, recipe.l2, recipe.gradient)
        loss = fidelity + recipe.commitment * quantized.commitment_loss
        if self.critic is not None and self.step >= recipe.disc_start:
            loss = loss + self._adversarial(fidelity, reconstructed)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.movq.parameters(), recipe.clip_norm)
        set_learning_rate(
            self.optimizer, learning_rate(self.step, recipe.steps, recipe.peak_rate, recipe.warmup)
        )
        self.optimizer.step()
        revived = self.codebook.update(z.detach(), quantized.codes)
        self.ema.update(self.movq, self.step)
        figures = {"loss": loss.item(), "fidelity": fidelity.item(), "grad_norm": norm.item()}
        if self.critic is not None and self.step >= recipe.disc_start:
            figures["critic"] = self._train_critic(pixels, reconstructed.detach())
        self.step += 1
        return {**figures, "commitment": quantized.commitment_loss.item(), "revived": float(revived)}

    def _adversarial(self, fidelity: Tensor, reconstructed: Tensor) -> Tensor:
        assert self.critic is not None
        adversarial = hinge_generator_loss(self.critic(reconstructed))
        last_layer = self.movq.decoder.conv_out.weight
        return self.recipe.disc_weight * adaptive_weight(fidelity, adversarial, last_layer) * adversarial

    def _train_critic(self, pixels: Tensor, reconstructed: Tensor) -> float:
        assert self.critic is not None
        loss = hinge_discriminator_loss(self.critic(pixels), self.critic(reconstructed))
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return loss.item()

    def state_dict(self) -> dict[str, Any]:
        state = {
            "config": self.config.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "movq": self.movq.state_dict(),
            "ema": self.ema.module.state_dict(),
            "codebook": self.codebook.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        if self.critic is not None:
            state["critic"] = self.critic.state_dict()
            state["critic_optimizer"] = self.critic_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.movq.load_state_dict(state["movq"])
        self.ema.module.load_state_dict(state["ema"])
        self.codebook.load_state_dict(state["codebook"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if self.critic is not None and "critic" in state:
            self.critic.load_state_dict(state["critic"])
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])


class HeldOut:
    """The held-out images, and what is logged about them."""

    def __init__(self, data: Path, size: int) -> None:
        _, self.emoji = heldout_emoji(data)
        self.patches = heldout_patches(data, size)

    def log(self, movq: MoVQ, writer: SummaryWriter, step: int, seconds: float) -> str:
        """Write figures and a grid of pairs to TensorBoard; returns a line for the terminal."""
        line = f"step {step}  {seconds / 60:.1f} min"
        for name, pixels in (("emoji", self.emoji), ("photographs", self.patches)):
            figures = evaluate_reconstruction(movq, pixels)
            writer.add_scalar(f"heldout/{name}_psnr_db", figures.psnr_db, step)
            writer.add_scalar(f"heldout/{name}_ssim", figures.ssim, step)
            writer.add_scalar(f"heldout/{name}_codebook_used", figures.codebook_used, step)
            some = pixels[:: max(1, len(pixels) // 12)][:12]
            writer.add_image(f"heldout/{name}", image_grid([some, reconstruct(movq, some)[0]]), step)
            line += (
                f"  {name} {figures.psnr_db:.2f} dB {figures.ssim:.3f} {figures.codebook_used:.0%} of codes"
            )
        return line


def main(
    data: Annotated[Path, typer.Option(help="folder of prepare_data")] = Path("data/emoji-64"),
    out: Annotated[Path, typer.Option(help="checkpoint, log and TensorBoard")] = Path("runs/movq"),
    preset: Annotated[str, typer.Option(help=f"one of {', '.join(MOVQ_PRESETS)}")] = "emoji-64",
    steps: Annotated[int, typer.Option(min=1)] = TokenizerRecipe().steps,
    batch_size: Annotated[int, typer.Option(min=1)] = TokenizerRecipe().batch_size,
    peak_rate: Annotated[float, typer.Option(min=0.0)] = TokenizerRecipe().peak_rate,
    disc_weight: Annotated[float, typer.Option(min=0.0)] = 0.0,
    disc_start: Annotated[int, typer.Option(min=0)] = 0,
    seed: int = 0,
    evaluate_every: Annotated[int, typer.Option(min=1)] = 1000,
) -> None:
    """Train, or go on from the checkpoint in `out`; ends at `steps` with `out/checkpoint.pt`."""
    recipe = TokenizerRecipe(
        steps=steps,
        batch_size=batch_size,
        peak_rate=peak_rate,
        disc_weight=disc_weight,
        disc_start=disc_start,
        seed=seed,
    )
    batches = TokenizerBatches(load_emoji(data, "train"), load_photographs(data, "train"), batch_size)
    trainer = TokenizerTrainer(MOVQ_PRESETS[preset], recipe, batches)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint))
    else:
        trainer.start_codebook()
    run(trainer, HeldOut(data, trainer.config.image_size), out, evaluate_every)


def run(trainer: TokenizerTrainer, held_out: HeldOut, out: Path, evaluate_every: int) -> None:
    """The loop: step, log, evaluate, save."""
    writer = SummaryWriter(str(out / "tensorboard"))
    started = time.monotonic()
    with Progress() as progress:
        bar = progress.add_task("tokenizer", total=trainer.recipe.steps, completed=trainer.step)
        while trainer.step < trainer.recipe.steps:
            figures = trainer.train_step()
            progress.update(bar, completed=trainer.step, description=f"loss {figures['loss']:.3f}")
            if trainer.step % 50 == 0:
                for name, value in figures.items():
                    writer.add_scalar(f"train/{name}", value, trainer.step)
            if trainer.step % evaluate_every == 0 or trainer.step == trainer.recipe.steps:
                seconds = time.monotonic() - started
                line = held_out.log(trainer.ema.module, writer, trainer.step, seconds)
                progress.console.print(line)
                save_checkpoint(out / "checkpoint.pt", trainer.state_dict())
    writer.close()


if __name__ == "__main__":
    typer.run(main)
