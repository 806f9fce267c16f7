"""Stage 2's claim: MaskGIT against code after code, on the same codes, trunk and number of images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks.ablation.results import Result
from movq_core.bundle import ModelBundle
from movq_core.config import AUTOREGRESSIVE_PRESETS, MASKGIT_PRESETS, AutoregressiveConfig, MaskGITConfig
from movq_core.models.autoregressive import Autoregressive
from movq_core.models.maskgit import MaskGIT
from movq_core.params import SamplingParams
from movq_core.sampling.autoregressive import generate_in_order
from movq_core.sampling.generate import generate_codes
from movq_core.training.classifier import build_classifier, predict, train_classifier
from movq_core.training.data import heldout_emoji, load_emoji
from movq_core.training.encode_dataset import load_codes
from movq_core.training.evaluate import code_nll, masked_nll
from movq_core.training.evaluation.distributions import kernel_distance
from movq_core.training.recipes import PriorRecipe
from movq_core.training.train_maskgit import PriorBatches, PriorTrainer

# A small trunk: what two cores train a few times over. Nothing but the order differs between the two.
_SMALL = {"width": 128, "depth": 4, "heads": 4}
KINDS: dict[str, MaskGITConfig | AutoregressiveConfig] = {
    "MaskGIT": MASKGIT_PRESETS["emoji-64"].model_copy(update=_SMALL),
    "autoregressive": AUTOREGRESSIVE_PRESETS["emoji-64"].model_copy(update=_SMALL),
}
MASKGIT_STEPS = 12  # the paper's
GUIDANCE = (1.0, 3.0)  # none, and the demo's
EACH = 8  # samples of each class

Sample = Callable[[int, int, float], Tensor]  # class, seed, guidance_scale -> codes (1, C, H, W)


def run_prior(kind: str, seed: int, steps: int, data: Path, bundle_folder: Path) -> Result:
    """Train one prior from scratch; its likelihood, samples and price."""
    recipe = PriorRecipe(steps=steps, seed=seed)
    codes = data / "codes"
    trainer = PriorTrainer(
        KINDS[kind], recipe, PriorBatches(load_codes(codes / "train.npz"), recipe.batch_size)
    )
    started = time.process_time()
    for _ in track(range(steps), f"{kind}, seed {seed}"):
        trainer.train_step()
    trained_s = time.process_time() - started
    prior, held_out = trainer.ema.module, load_codes(codes / "heldout.npz")
    masked = isinstance(prior, MaskGIT)
    figures: dict[str, float] = {
        "parameters": sum(p.numel() for p in prior.parameters()),
        "training_cpu_s": trained_s,
        "nll": masked_nll(prior, held_out) if isinstance(prior, MaskGIT) else code_nll(prior, held_out),
        "passes": MASKGIT_STEPS if masked else prior.config.codes_per_image,
    }
    bundle = ModelBundle.load(bundle_folder)
    judge = load_judge(data, len(bundle.manifest.labels), codes / "judge.pt")
    sample = sampler(prior)
    for guidance in GUIDANCE:
        figures |= {
            f"guidance_{guidance:g}_{name}": value
            for name, value in quality(sample, guidance, bundle, judge, data).items()
        }
    return Result(name=kind, seed=seed, steps=steps, figures=figures)


def sampler(prior: MaskGIT | Autoregressive) -> Sample:
    """One image at a time from either prior, the temperature of both 1."""
    if isinstance(prior, Autoregressive):
        return lambda class_id, seed, guidance: generate_in_order(
            prior, torch.tensor([class_id]), torch.tensor([seed]), guidance_scale=guidance
        )
    params = SamplingParams(steps=MASKGIT_STEPS, choice_temperature=6.0)
    return lambda class_id, seed, guidance: generate_codes(
        prior, class_id, params.model_copy(update={"seed": seed, "guidance_scale": guidance})
    )


@torch.inference_mode()
def quality(
    sample: Sample, guidance: float, bundle: ModelBundle, judge: nn.Sequential, data: Path
) -> dict[str, float]:
    """Distance to held-out emoji and recognisability of `EACH` samples a class; CPU seconds an image."""
    classes = [(class_id, seed) for class_id in range(len(bundle.manifest.labels)) for seed in range(EACH)]
    started = time.process_time()
    codes = torch.cat([sample(class_id, seed, guidance) for class_id, seed in classes])
    image_s = (time.process_time() - started) / len(classes)
    pixels = torch.cat([bundle.movq.decode_codes(part) for part in codes.split(1)])
    emoji, real = heldout_emoji(data)
    real = real[torch.from_numpy(emoji.classes >= 0)]
    recognised = predict(judge, pixels) == torch.tensor([class_id for class_id, _ in classes])
    return {
        "kernel_distance": kernel_distance(features(judge, pixels), features(judge, real)),
        "recognised": float(recognised.float().mean()),
        "cpu_s_an_image": image_s,
    }


def load_judge(data: Path, num_classes: int, path: Path) -> nn.Sequential:
    """The classifier of real emoji, trained once."""
    judge = build_classifier(num_classes)
    if not path.exists():
        emoji = load_emoji(data, "train")
        torch.save(train_classifier(emoji.select(emoji.classes >= 0), num_classes).state_dict(), path)
    judge.load_state_dict(torch.load(path, weights_only=True))
    return judge.eval()


def features(judge: nn.Sequential, pixels: Tensor) -> Tensor:
    """What the classifier's last layer sees: (N, 192), float64."""
    return torch.cat([judge[:-1](part) for part in pixels.split(64)]).double()
