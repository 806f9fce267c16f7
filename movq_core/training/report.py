"""Measure a bundle on held-out images and draw its pictures: `python -m movq_core.training.report --help`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from movq_core.bundle import ModelBundle
from movq_core.params import SamplingParams
from movq_core.sampling.generate import generate_codes
from movq_core.training.classifier import predict, recall, train_classifier
from movq_core.training.common import image_grid
from movq_core.training.data import heldout_emoji, heldout_patches, load_emoji
from movq_core.training.encode_dataset import CodeSet, load_codes
from movq_core.training.evaluate import (
    evaluate_reconstruction,
    masked_nll,
    quantised_to_8_bits,
    reconstruct,
    unigram_nll,
)

WORST_FIRST = 8


def save_picture(rows: list[Tensor], path: Path, scale: int) -> None:
    """Rows of images (N, 3, h, w) in [-1, 1] as one PNG, each pixel `scale` times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = image_grid(rows, scale).mul(255).round().to(torch.uint8)
    Image.fromarray(grid.permute(1, 2, 0).numpy()).save(path, optimize=True)


def reconstruction_figures(bundle: ModelBundle, data: Path, pictures: Path) -> dict[str, Any]:
    """PSNR, SSIM and code usage on held-out emoji and photographs; pairs drawn, the worst ones too."""
    size = bundle.manifest.movq.image_size
    figures = {}
    for name, pixels in (("emoji", heldout_emoji(data)[1]), ("photographs", heldout_patches(data, size))):
        measured = evaluate_reconstruction(bundle.movq, pixels)
        figures[name] = {
            "psnr_db": round(measured.psnr_db, 2),
            "ssim": round(measured.ssim, 4),
            "codebook_used": round(measured.codebook_used, 4),
            "images": len(pixels),
        }
        rows = reconstruction_rows(bundle, pixels)
        save_picture(rows, pictures / f"reconstructions_{name}.png", scale=2)
    return figures


def draw_samples(bundle: ModelBundle, each: int, sampling: SamplingParams) -> list[Tensor]:
    """`each` samples of every class, seeds 0, 1, ...: pixels (each, 3, h, w) a class. None is picked.

    A prior without classes gives one row.
    """
    assert bundle.maskgit is not None
    rows = []
    classes: list[int | None] = list(range(bundle.maskgit.config.num_classes)) or [None]
    for class_id in track(classes, "samples"):
        chosen = [sampling.model_copy(update={"seed": seed}) for seed in range(each)]
        codes = torch.cat([generate_codes(bundle.maskgit, class_id, params) for params in chosen])
        with torch.inference_mode():
            rows.append(torch.cat([bundle.movq.decode_codes(part) for part in codes.split(1)]))
    return rows


def reconstruction_rows(bundle: ModelBundle, pixels: Tensor) -> list[Tensor]:
    """Images over their reconstructions: eight taken evenly, then the eight worst."""
    ours = reconstruct(bundle.movq, pixels)[0]
    errors = (quantised_to_8_bits(ours) - quantised_to_8_bits(pixels)).square().mean((1, 2, 3))
    worst = errors.argsort(descending=True)[:WORST_FIRST]
    evenly = torch.arange(0, len(pixels), max(1, len(pixels) // WORST_FIRST))[:WORST_FIRST]
    return [pixels[evenly], ours[evenly], pixels[worst], ours[worst]]


def recognition_figures(bundle: ModelBundle, data: Path, samples: list[Tensor]) -> dict[str, Any]:
    """Accuracy of a classifier trained on real images: on held-out ones, reconstructed ones, and samples."""
    train = load_emoji(data, "train")
    train = train.select(train.classes >= 0)
    labels = bundle.manifest.labels
    classifier = train_classifier(train, len(labels))
    emoji, pixels = heldout_emoji(data)
    known = torch.from_numpy(emoji.classes >= 0)
    real, truth = pixels[known], torch.from_numpy(emoji.classes)[known]
    sampled = torch.cat(samples)
    wanted = torch.arange(len(labels)).repeat_interleave(len(samples[0]))
    recalls = recall(predict(classifier, sampled), wanted, len(labels))
    return {
        "chance": round(1 / len(labels), 3),
        "heldout_real": _mean_recall(predict(classifier, real), truth, len(labels)),
        "heldout_reconstructed": _mean_recall(
            predict(classifier, reconstruct(bundle.movq, real)[0]), truth, len(labels)
        ),
        "samples": round(sum(recalls) / len(recalls), 3),
        "samples_by_class": dict(zip(labels, (round(r, 3) for r in recalls), strict=True)),
        "samples_a_class": len(samples[0]),
    }


def _mean_recall(predicted: Tensor, truth: Tensor, num_classes: int) -> float:
    recalls = [r for r in recall(predicted, truth, num_classes) if not math.isnan(r)]
    return round(sum(recalls) / len(recalls), 3)


def prior_figures(bundle: ModelBundle, codes: Path) -> dict[str, float]:
    """Held-out nats a code: the prior's, of masked codes; the per-class unigram's; the uniform's."""
    assert bundle.maskgit is not None
    train, held_out = load_codes(codes / "train.npz"), load_codes(codes / "heldout.npz")
    return {
        "nll": round(masked_nll(bundle.maskgit, held_out), 3),
        "nll_unigram": round(unigram_nll(train, held_out, bundle.manifest.movq.codebook_size), 3),
        "nll_uniform": round(math.log(bundle.manifest.movq.codebook_size), 3),
    }


def agreement(bundle: ModelBundle, library: CodeSet, pixels: Tensor) -> float:
    """Mean share of an image's codes that its nearest training picture has too: 1 would be a copy."""
    known = torch.from_numpy(library.codes.astype(np.int64)).flatten(0, 1).flatten(1)  # (N*V, C*H*W)
    codes = reconstruct(bundle.movq, pixels)[1].flatten(1)
    nearest = [(known == row).float().mean(1).max() for row in codes]
    return round(float(torch.stack(nearest).mean()), 3)


def print_figures(figures: dict[str, Any]) -> None:
    """The figures as a table, one line a number."""
    table = Table("figure", "value", title="held-out figures")
    for group, values in figures.items():
        for name, value in values.items():
            table.add_row(f"{group} {name}", json.dumps(value))
    Console().print(table)


def main(
    bundle: Annotated[Path, typer.Option(help="the bundle to measure")] = Path("models/emoji-64"),
    data: Annotated[Path, typer.Option(help="folder of prepare_data")] = Path("data/emoji-64"),
    codes: Annotated[Path, typer.Option(help="folder of encode_dataset")] = Path("data/emoji-64/codes"),
    pictures: Annotated[Path, typer.Option(help="where the pictures go")] = Path("docs/pictures"),
    each: Annotated[int, typer.Option(min=1, help="samples of each class")] = 8,
) -> None:
    """Print the figures, write them to `figures.json` in the bundle, and draw samples and reconstructions."""
    loaded = ModelBundle.load(bundle)
    figures: dict[str, Any] = reconstruction_figures(loaded, data, pictures)
    if loaded.maskgit is not None:
        figures["prior"] = prior_figures(loaded, codes)
        samples = draw_samples(loaded, each, loaded.manifest.sampling)
        save_picture(samples, pictures / "samples.png", scale=1)
        figures["classifier"] = recognition_figures(loaded, data, samples)
        library = load_codes(codes / "train.npz")
        figures["code agreement with the nearest training picture"] = {
            "samples": agreement(loaded, library, torch.cat(samples)),
            "heldout": agreement(loaded, library, heldout_emoji(data)[1]),
        }
    (bundle / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print_figures(figures)


if __name__ == "__main__":
    typer.run(main)
