"""Cache the codes that the prior learns from: `python -m movq_core.training.encode_dataset --help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import track

from movq_core.bundle import ModelBundle
from movq_core.manifest import MOVQ_FILE
from movq_core.training.classes import LABELS
from movq_core.training.data import WHITE, EmojiSet, composite, flipped, load_emoji, shifted, to_pixels

NEVER_MIRRORED = LABELS.index("sign")  # letters and arrows mean something


@dataclass(frozen=True)
class CodeSet:
    """`codes` (N, V, C, H, W): V versions (moved, mirrored) of each picture; `classes`, `bases` (N,)."""

    codes: NDArray[np.int16]
    classes: NDArray[np.int64]
    bases: NDArray[np.str_]


def load_codes(path: Path) -> CodeSet:
    with np.load(path) as data:
        return CodeSet(data["codes"], data["classes"], data["bases"])


def versions(emoji: EmojiSet, count: int, reach: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """`count` versions of all pictures: the picture itself, then moved and mirrored ones."""
    result = [emoji.images]
    for _ in range(count - 1):
        mirror = (rng.random(len(emoji.images)) < 0.5) & (emoji.classes != NEVER_MIRRORED)
        result.append(flipped(shifted(emoji.images, reach, rng), mirror))
    return result


@torch.inference_mode()
def encode(bundle: ModelBundle, images: NDArray[np.uint8], batch_size: int = 32) -> NDArray[np.int16]:
    """RGBA (N, S, S, 4) on white -> codes (N, C, H, W)."""
    pixels = to_pixels(composite(images, WHITE))
    parts = [bundle.movq.encode_codes(part) for part in pixels.split(batch_size)]
    return torch.cat(parts).numpy().astype(np.int16)


def main(
    data: Annotated[Path, typer.Option(help="folder of prepare_data")] = Path("data/emoji-64"),
    bundle: Annotated[Path, typer.Option(help="a bundle with a tokenizer")] = Path("models/emoji-64"),
    out: Annotated[Path, typer.Option(help="where the codes go")] = Path("data/emoji-64/codes"),
    count: Annotated[int, typer.Option(min=1, help="versions of each training picture")] = 8,
    reach: Annotated[int, typer.Option(min=0, help="pixels that a version may move")] = 2,
    seed: int = 0,
) -> None:
    """Encode the pictures that have a class; the held-out ones as they are, one a base."""
    tokenizer = ModelBundle.load(bundle)
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split in ("train", "heldout"):
        emoji = load_emoji(data, split)
        if split == "heldout":
            emoji = emoji.one_per_base()
        emoji = emoji.select(emoji.classes >= 0)
        made = versions(emoji, count if split == "train" else 1, reach, rng)
        codes = np.stack([encode(tokenizer, v) for v in track(made, f"codes {split}")], axis=1)
        np.savez(out / f"{split}.npz", codes=codes, classes=emoji.classes, bases=emoji.bases)
    typer.echo(f"codes of {bundle / MOVQ_FILE} in {out}")


if __name__ == "__main__":
    typer.run(main)
