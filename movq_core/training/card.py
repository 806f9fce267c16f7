"""A bundle's model card: what it learnt from, how long, and how well it does on what it has not seen."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from movq_core.bundle import ModelBundle
from movq_core.params import SamplingParams
from movq_core.training.encode_dataset import CodeSet
from movq_core.training.evaluate import evaluate_reconstruction, masked_nll, unigram_nll
from movq_core.training.folder import ImageFolder
from movq_core.training.report import draw_samples, reconstruction_rows, save_picture

SAMPLES_A_CLASS = 8
MAX_CLASSES_DRAWN = 16

TEMPLATE = """\
# {name}

A MoVQ tokenizer and a MaskGIT prior for {size}x{size} images {kinds}, trained by `movq train`.

![samples](samples.png)

*{samples}, seeds 0 to {last_seed} in order, none picked{classes}.*

## Figures
On {heldout} held-out images; no copy of one was trained on.

| reconstruction | PSNR | SSIM | codebook used |
|---|---|---|---|
| {heldout} held-out images | {psnr_db:.2f} dB | {ssim:.3f} | {codebook_used:.1%} |

{codes} codes of {bits:g} bits an image: {bytes:.0f} bytes.

| prior, nats a code on held-out images | |
|---|---|
| uniform | {nll_uniform:.3f} |
| unigram of the class and channel | {nll_unigram:.3f} |
| this prior, masked codes, mean over mask ratios 1/16 to 15/16 | {nll:.3f} |

![reconstructions](reconstructions.png)

*Held-out images over their reconstructions: eight taken evenly, then the eight worst.*

## Data and licence
{train} images to learn from and {heldout} held out, by content. {broken}

{table}
**Licence: to be written.** The weights were made of these images; say here where they come from and what
may be done with them.

## Training
| | parameters | steps x batch | minutes |
|---|---|---|---|
| tokenizer | {movq_parameters:,} | {tokenizer} |
| prior | {maskgit_parameters:,} | {prior} |

Defaults of the bundle: {sampling}.
"""


@dataclass(frozen=True)
class Card:
    """What a card is made of; `work` holds "steps x batch | minutes" of "tokenizer" and "prior"."""

    bundle: ModelBundle
    images: ImageFolder
    figures: dict[str, float]
    sampling: SamplingParams
    work: dict[str, str]


def measure(bundle: ModelBundle, images: ImageFolder, train: CodeSet, heldout: CodeSet) -> dict[str, float]:
    """Held-out PSNR, SSIM and code usage; nats a code of the prior, the unigram and the uniform."""
    assert bundle.maskgit is not None
    reconstruction = evaluate_reconstruction(bundle.movq, images.heldout.pixels())
    codebook_size = bundle.manifest.movq.codebook_size
    return {
        "psnr_db": reconstruction.psnr_db,
        "ssim": reconstruction.ssim,
        "codebook_used": reconstruction.codebook_used,
        "nll": masked_nll(bundle.maskgit, heldout),
        "nll_unigram": unigram_nll(train, heldout, codebook_size),
        "nll_uniform": math.log(codebook_size),
    }


def write_card(card: Card, out: Path) -> None:
    """README.md, figures.json and two pictures in the bundle's folder `out`."""
    scale = max(1, 128 // card.bundle.manifest.movq.image_size)
    samples = draw_samples(card.bundle, SAMPLES_A_CLASS, card.sampling)
    save_picture(samples[:MAX_CLASSES_DRAWN], out / "samples.png", scale)
    pairs = reconstruction_rows(card.bundle, card.images.heldout.pixels())
    save_picture(pairs, out / "reconstructions.png", scale)
    rounded = {name: round(value, 4) for name, value in card.figures.items()}
    (out / "figures.json").write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(TEMPLATE.format(**_values(card)), encoding="utf-8")


def _values(card: Card) -> dict[str, Any]:
    bundle, images = card.bundle, card.images
    movq, labels = bundle.manifest.movq, images.labels
    assert bundle.maskgit is not None
    codes = movq.code_channels * movq.grid_size**2
    drawn = ", ".join(labels[:MAX_CLASSES_DRAWN])
    return {
        **card.figures,
        **card.work,
        "name": bundle.manifest.name,
        "size": movq.image_size,
        "kinds": f"in {len(labels)} classes" if labels else "without classes",
        "samples": f"{SAMPLES_A_CLASS} samples" + (" of each class" if labels else ""),
        "classes": f"; from above: {drawn}" if labels else "",
        "last_seed": SAMPLES_A_CLASS - 1,
        "train": len(images.train),
        "heldout": len(images.heldout),
        "broken": f"Files that could not be read: {len(images.broken)}."
        if images.broken
        else "All files could be read.",
        "table": _class_table(images),
        "codes": codes,
        "bits": movq.bits_per_code,
        "bytes": codes * movq.bits_per_code / 8,
        "movq_parameters": sum(p.numel() for p in bundle.movq.parameters()),
        "maskgit_parameters": sum(p.numel() for p in bundle.maskgit.parameters()),
        "sampling": ", ".join(
            f"{k} {v}" for k, v in card.sampling.model_dump(exclude={"seed"}, mode="json").items()
        ),
    }


def _class_table(images: ImageFolder) -> str:
    """Images of each class on both sides; nothing for a folder without classes."""
    if not images.labels:
        return ""
    counts = [np.bincount(s.classes, minlength=len(images.labels)) for s in (images.train, images.heldout)]
    rows = [f"| {label} | {a} | {b} |" for label, a, b in zip(images.labels, *counts, strict=True)]
    return "\n".join(["| class | learnt from | held out |", "|---|---|---|", *rows, ""])
