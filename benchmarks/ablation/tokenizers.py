"""Stage 1's claims: spatial norm against a plain decoder, four code channels against one."""

from __future__ import annotations

import time
from pathlib import Path

from rich.progress import track

from benchmarks.ablation.artefacts import measure_repetition
from benchmarks.ablation.results import Result
from movq_core.config import MOVQ_PRESETS, MoVQConfig
from movq_core.training.data import (
    TokenizerBatches,
    heldout_emoji,
    heldout_patches,
    load_emoji,
    load_photographs,
)
from movq_core.training.evaluate import evaluate_reconstruction, quantised_to_8_bits, reconstruct
from movq_core.training.recipes import TokenizerRecipe
from movq_core.training.train_movq import TokenizerTrainer

BASE = MOVQ_PRESETS["emoji-64"]
_ONE_CHANNEL = {"code_channels": 1, "code_dim": BASE.z_channels}
# The same z in every variant: 32 numbers a cell, cut into four sub-vectors or not at all.
VARIANTS: dict[str, MoVQConfig] = {
    "spatial norm, 4 channels": BASE,
    "plain norm, 4 channels": BASE.model_copy(update={"decoder_norm": "group"}),
    "spatial norm, 1 channel": BASE.model_copy(update=_ONE_CHANNEL),
    "plain norm, 1 channel": BASE.model_copy(update={**_ONE_CHANNEL, "decoder_norm": "group"}),
    # As many bits as four channels at f 8: a grid twice as fine, at the price of four times the positions.
    # Its one level has the finest level's cells and about the others' parameters.
    "spatial norm, 1 channel, f 4": BASE.model_copy(
        update={**_ONE_CHANNEL, "channel_multipliers": (1,), "base_channels": 2 * BASE.base_channels}
    ),
}


def bits_per_pixel(config: MoVQConfig) -> float:
    return config.code_channels * config.bits_per_code / config.downsampling_factor**2


def run_tokenizer(name: str, seed: int, steps: int, data: Path) -> Result:
    """Train one variant from scratch and measure it on held-out emoji and photographs."""
    config = VARIANTS[name]
    recipe = TokenizerRecipe(steps=steps, seed=seed)
    batches = TokenizerBatches(load_emoji(data, "train"), load_photographs(data, "train"), recipe.batch_size)
    trainer = TokenizerTrainer(config, recipe, batches)
    trainer.start_codebook()
    started = time.process_time()
    for _ in track(range(steps), f"{name}, seed {seed}"):
        trainer.train_step()
    figures: dict[str, float] = {
        "bits_per_pixel": bits_per_pixel(config),
        "parameters": sum(p.numel() for p in trainer.movq.parameters()),
        "cpu_seconds": time.process_time() - started,
    }
    movq = trainer.ema.module
    images = {"emoji": heldout_emoji(data)[1], "photographs": heldout_patches(data, config.image_size)}
    for kind, pixels in images.items():
        measured = evaluate_reconstruction(movq, pixels)
        decoded, codes = reconstruct(movq, pixels)
        repeated = measure_repetition(codes, quantised_to_8_bits(decoded), quantised_to_8_bits(pixels))
        figures |= {
            f"{kind}_psnr_db": measured.psnr_db,
            f"{kind}_ssim": measured.ssim,
            f"{kind}_codebook_used": measured.codebook_used,
            f"{kind}_repeated_pairs": repeated.pairs,
            f"{kind}_repeated_identical": repeated.identical,
            f"{kind}_repeated_kept": repeated.kept,
        }
    return Result(name=name, seed=seed, steps=steps, figures=figures)
