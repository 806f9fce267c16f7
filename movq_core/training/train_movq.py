"""Train the tokenizer: `python -m movq_core.training.train_movq --help`.

Under `torchrun --nproc-per-node N -m movq_core.training.train_movq` on N GPUs, or N processes of a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.func import functional_call

from movq_core.bundle import ModelBundle
from movq_core.config import MoVQConfig
from movq_core.errors import MovqError
from movq_core.models.discriminator import PatchDiscriminator
from movq_core.models.losses import (
    adaptive_weight,
    hinge_discriminator_loss,
    hinge_generator_loss,
    reconstruction_loss,
)
from movq_core.models.movq import MoVQ
from movq_core.models.quantizer import Quantized
from movq_core.training.ahead import Ahead
from movq_core.training.checkpoints import Checkpoints, random_states, restore_random_state
from movq_core.training.codebook import CodebookEMA, usage_entropy
from movq_core.training.common import WeightEMA, learning_rate, load_checkpoint
from movq_core.training.data import PixelBatches
from movq_core.training.distributed import Ranks
from movq_core.training.evaluation.features import load_lpips
from movq_core.training.held_out import HeldOutPixels
from movq_core.training.image_file import Fit, Framing
from movq_core.training.learner import Learner, prepare_blocks
from movq_core.training.loop import mean_figures, run
from movq_core.training.recipes import TokenizerRecipe, recipe_names, save_plan, tokenizer_plan
from movq_core.training.sources import demo_pixels, folder_pixels, shard_pixels


class Autoencoder(nn.Module):
    """Encode, quantise and decode in one call: DDP counts one forward for each backward."""

    def __init__(self, movq: MoVQ) -> None:
        super().__init__()
        self.movq = movq

    def forward(self, pixels: Tensor) -> tuple[Tensor, Quantized, Tensor]:
        """Pixels (B, 3, h, w) -> their reconstruction, not clamped; the quantiser's outcome; z."""
        z = self.movq.encode(pixels).float()
        quantized = self.movq.quantizer(z)
        return self.movq.decode(quantized.z_q).float(), quantized, z


@dataclass(frozen=True)
class MicroBatch:
    """What a micro-batch leaves: vectors (B, C*D, H, W) and codes (B, C, H, W); figures, each a scalar."""

    z: Tensor
    codes: Tensor
    figures: dict[str, Tensor]


class TokenizerTrainer:
    """All that a tokenizer's run owns: model, averages, codebook, critic, optimisers, generator."""

    def __init__(
        self,
        config: MoVQConfig,
        recipe: TokenizerRecipe,
        batches: PixelBatches,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.recipe, self.batches, self.ranks = config, recipe, batches, ranks or Ranks()
        recipe.check_divides(self.ranks.count)
        torch.manual_seed(recipe.seed)
        self.rng = np.random.default_rng(recipe.seed)
        self._pixels = Ahead(self._draw_pixels, self._position)
        self.step = 0
        self.movq = MoVQ(config).to(self.ranks.device)
        self.codebook = CodebookEMA(
            self.movq.quantizer,
            recipe.codebook_decay,
            recipe.revive_below,
            "nothing" if recipe.train == "decoder" else recipe.codebook,
            self.ranks,
        )
        if recipe.train == "decoder":
            self.movq.encoder.requires_grad_(False)
            self.movq.quant_conv.requires_grad_(False)
        self.ema = WeightEMA(self.movq, recipe.ema_decay)
        self.learner = self._learner(recipe)
        self.critic = self._critic(recipe) if recipe.disc_weight else None
        self.lpips: nn.Module | None = None
        if recipe.lpips_weights is not None and recipe.perceptual:
            self.lpips = load_lpips(recipe.lpips_weights).to(self.ranks.device)

    def _learner(self, recipe: TokenizerRecipe) -> Learner:
        prepare_blocks(self.movq, recipe)
        learnt = [p for p in self.movq.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learnt, betas=recipe.betas, weight_decay=recipe.weight_decay)
        return Learner(Autoencoder(self.movq), optimizer, recipe, self.ranks)

    def _critic(self, recipe: TokenizerRecipe) -> Learner:
        # Three strided convs, as VQGAN's; an image of 16 pixels is too small for the third.
        layers = min(3, self.config.image_size.bit_length() - 3)
        critic = PatchDiscriminator(layers=layers).to(self.ranks.device)
        optimizer = torch.optim.AdamW(critic.parameters(), betas=recipe.disc_betas)
        return Learner(critic, optimizer, recipe, self.ranks, clip=False)

    @property
    def critic_runs(self) -> bool:
        """Whether this optimiser step has a critic."""
        return self.critic is not None and self.step >= self.recipe.disc_start

    @torch.no_grad()
    def start_codebook(self, batches: int | None = None) -> None:
        """K-means over the vectors of a few batches of the untrained encoder, on every rank the same."""
        z = []
        for _ in range(batches or self.recipe.start_batches):
            with self.learner.autocast():
                parts = [self.movq.encode(part).float() for part in self._draw()]
            z.append(self.ranks.gather(torch.cat(parts)))
        self.codebook.start(self.movq.quantizer.split(torch.cat(z)).flatten(0, -2))

    def begin(self, state: dict[str, Any] | None, init: Path | None) -> None:
        """Go on from a checkpoint's `state`, or start: from the weights at `init`, or from nothing."""
        if state is not None:
            self.load_state_dict(state)
        elif init is not None:
            self.start_from(load_weights(init))
        else:
            self.start_codebook()

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Begin with a tokenizer's weights instead of random ones; its codebook is kept as it is."""
        self.movq.load_state_dict(weights)
        self.ema.module.load_state_dict(weights)
        grid = self.config.grid_size**2 * self.config.code_channels
        self.codebook.adopt(self.batches.batch_size * grid)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; returns its figures, means over micro-batches and ranks."""
        micro_batches = self._draw()
        done = [self._backward(part, part is micro_batches[-1]) for part in micro_batches]
        recipe = self.recipe
        rate = learning_rate(
            self.step, recipe.steps, recipe.peak_rate, recipe.warmup, schedule=recipe.schedule
        )
        norm = self.learner.step(rate)
        if self.critic is not None and self.critic_runs:
            self.critic.step(recipe.disc_rate)
        usage = self.codebook.update(torch.cat([m.z for m in done]), torch.cat([m.codes for m in done]))
        self.ema.update(self.movq, self.step)
        self.step += 1
        figures = mean_figures([m.figures for m in done], self.ranks)
        return {
            **figures,
            "grad_norm": norm,
            "rate": rate,
            "revived": float(usage.revived),
            "code_usage": usage.used,
            "perplexity": usage.perplexity,
        }

    def _draw(self) -> list[Tensor]:
        """The next batch's rows of this rank, in micro-batches (n, 3, S, S)."""
        return list(self._pixels.next().to(self.ranks.device).chunk(self.recipe.accumulate))

    def _draw_pixels(self) -> Tensor:
        return self.batches.draw(self.rng, self.ranks.part(self.batches.batch_size))

    def _position(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "batches": self.batches.state_dict()}

    def _backward(self, pixels: Tensor, last: bool) -> MicroBatch:
        """Add a micro-batch's gradients; the critic judges what the tokenizer made before both step."""
        with self.learner.gathering(last):
            reconstructed, quantized, z = self.learner(pixels)
            loss, figures = self._loss(pixels, reconstructed, quantized, z)
            (loss / self.recipe.accumulate).backward()
        if self.critic is not None and self.critic_runs:
            figures["critic"] = self._critic_backward(self.critic, pixels, reconstructed.detach(), last)
        figures = {name: value.detach() for name, value in figures.items()}
        return MicroBatch(z.detach(), quantized.codes, figures)

    def _loss(
        self, pixels: Tensor, reconstructed: Tensor, quantized: Quantized, z: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum to go down, and its parts."""
        recipe = self.recipe
        fidelity = reconstruction_loss(reconstructed, pixels, recipe.l1, recipe.l2, recipe.gradient)
        figures = {"commitment": quantized.commitment_loss}
        if self.lpips is not None:
            figures["lpips"] = self.lpips(reconstructed, pixels).mean()
            fidelity = fidelity + recipe.perceptual * figures["lpips"]
        loss = fidelity
        if recipe.train == "all":
            loss = loss + self._quantiser_loss(quantized, z, figures)
        if self.critic is not None and self.critic_runs:
            adversarial, figures["adaptive_weight"] = self._adversarial(self.critic, fidelity, reconstructed)
            loss = loss + adversarial
        return loss, {"loss": loss, "fidelity": fidelity, **figures}

    def _quantiser_loss(self, quantized: Quantized, z: Tensor, figures: dict[str, Tensor]) -> Tensor:
        """Commitment moves z to its codes; the codebook loss moves the codes, where they learn so."""
        recipe = self.recipe
        loss = recipe.commitment * quantized.commitment_loss
        if recipe.codebook == "gradient":
            loss = loss + recipe.codebook_weight * quantized.codebook_loss
        if recipe.entropy_weight:
            entropy = usage_entropy(z, self.movq.quantizer, recipe.entropy_temperature, self.ranks)
            figures["usage_entropy"] = entropy
            loss = loss - recipe.entropy_weight * entropy
        return loss

    def _adversarial(self, critic: Learner, fidelity: Tensor, reconstructed: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic pays, weighed; and the adaptive weight."""
        constant = {name: p.detach() for name, p in critic.module.named_parameters()}
        with critic.autocast():
            logits = functional_call(critic.module, constant, (reconstructed,))
        adversarial = hinge_generator_loss(logits.float())
        last_layer = self.movq.decoder.conv_out.weight
        weight = adaptive_weight(fidelity, adversarial, last_layer, self.ranks.mean)
        return self.recipe.disc_weight * weight * adversarial, weight

    def _critic_backward(self, critic: Learner, real: Tensor, fake: Tensor, last: bool) -> Tensor:
        with critic.gathering(last):
            on_real, on_fake = critic(torch.cat([real, fake])).float().chunk(2)
            loss = hinge_discriminator_loss(on_real, on_fake)
            (loss / self.recipe.accumulate).backward()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on. Every rank calls it; the first one's is whole."""
        state = {
            "config": self.config.model_dump(mode="json"),
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "movq": self.movq.state_dict(),
            "ema": self.ema.module.state_dict(),
            "codebook": self.codebook.state_dict(),
            "optimizer": self.learner.optimizer.state_dict(),
            "torch_rng": random_states(self.ranks),
            **self._pixels.position,
        }
        if self.critic is not None:
            state["critic"] = self.critic.module.state_dict()
            state["critic_optimizer"] = self.critic.optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.movq.load_state_dict(state["movq"])
        self.ema.module.load_state_dict(state["ema"])
        self.codebook.load_state_dict(state["codebook"])
        self.learner.optimizer.load_state_dict(state["optimizer"])
        self._pixels.forget()
        self.batches.load_state_dict(state["batches"])
        self.rng.bit_generator.state = state["rng"]
        restore_random_state(state["torch_rng"], self.ranks)
        if self.critic is not None and "critic" in state:
            self.critic.module.load_state_dict(state["critic"])
            self.critic.optimizer.load_state_dict(state["critic_optimizer"])


def load_weights(path: Path) -> Mapping[str, Tensor]:
    """A tokenizer's averaged weights: of a bundle's folder, or of a checkpoint."""
    if path.is_dir():
        return ModelBundle.load(path).movq.state_dict()
    weights: Mapping[str, Tensor] = load_checkpoint(path)["ema"]
    return weights


def main(
    data: Annotated[Path, typer.Option(help="folder of prepare_data")] = Path("data/emoji-64"),
    out: Annotated[Path, typer.Option(help="checkpoints, config.yaml, TensorBoard")] = Path("runs/movq"),
    recipe: Annotated[
        str, typer.Option(help=f"a file.yaml, or one of {', '.join(recipe_names('tokenizer'))}")
    ] = "emoji-64",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the recipe; may be repeated")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="bundle or checkpoint whose tokenizer the run begins with")
    ] = None,
    emoji_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="of the demo's data; the rest are patches of photographs")
    ] = 0.7,
    folder: Annotated[Path | None, typer.Option(help="instead: a folder of images or class folders")] = None,
    shards: Annotated[str | None, typer.Option(help="instead: 'train-{000..099}.tar'")] = None,
    heldout_shards: Annotated[str | None, typer.Option(help="with --shards: those held out")] = None,
    fit: Annotated[Fit, typer.Option(help="how images of a folder or of shards become squares")] = Fit.CROP,
    flip: Annotated[bool, typer.Option(help="mirror half of them")] = True,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
) -> None:
    """Train, or go on from the newest checkpoint in `out`; ends with `out/checkpoint.pt`."""
    ranks = Ranks.join(device)
    try:
        plan = tokenizer_plan(recipe, changes or ())
        framing = Framing(plan.model.image_size, fit)
        if shards is not None:
            pixels = shard_pixels(shards, heldout_shards, framing, flip, plan.batch_size, plan.seed)
        elif folder is not None:
            pixels = folder_pixels(folder, framing, flip, out / "images", plan.batch_size, ranks)
        else:
            pixels = demo_pixels(data, framing.size, plan.batch_size, emoji_share)
        trainer = TokenizerTrainer(plan.model, plan, pixels.batches, ranks)
        trainer.begin(Checkpoints(out).load(), init)
    except MovqError as error:
        raise typer.BadParameter(str(error)) from error
    if ranks.is_first:
        save_plan(plan, out / "config.yaml")
    run(trainer, HeldOutPixels(trainer.ema.module, pixels.held_out).evaluate, out)
    ranks.leave()


if __name__ == "__main__":
    typer.run(main)
