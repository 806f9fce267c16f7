"""Cache the codes that the prior learns from: `python -m movq_core.training.encode_dataset --help`.

The pictures are those of `prepare_data`, a folder, or shards. A few are in memory at a time; the codes go
straight to disk and are mapped from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from movq_core.models.movq import MoVQ
from movq_core.training.classes import LABELS
from movq_core.training.data import (
    WHITE,
    EmojiSet,
    Versions,
    composite,
    flipped,
    load_emoji,
    shifted,
    to_pixels,
)
from movq_core.training.folder import load_folder
from movq_core.training.image_file import Fit, Framing
from movq_core.training.shards import Shards

NEVER_MIRRORED = LABELS.index("sign")  # letters and arrows mean something
PICTURES_AT_ONCE = 64
CODE = np.int16  # K is at most 16384


@dataclass(frozen=True)
class CodeSet:
    """`codes` (N, V, C, H, W): V versions (moved, mirrored) of each picture; `classes`, `bases` (N,)."""

    codes: NDArray[np.int16]
    classes: NDArray[np.int64]
    bases: NDArray[np.str_]


def load_codes(path: Path) -> CodeSet:
    """What `write_codes` wrote to `path`; the codes are read from disk as they are used."""
    with np.load(path) as data:
        classes, bases = data["classes"], data["bases"]
        shape = (len(classes), *data["shape"])
    return CodeSet(np.memmap(_codes_file(path), CODE, "r", shape=shape), classes, bases)


def _codes_file(path: Path) -> Path:
    return path.with_suffix(".codes")


@torch.inference_mode()
def write_codes(movq: MoVQ, pictures: Iterable[Versions], path: Path, batch_size: int = 32) -> int:
    """Encode `pictures` into `path` (.npz) and the raw codes beside it; returns how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # written last: what was cut short does not look whole
    device = next(movq.parameters()).device
    classes: list[NDArray[np.int64]] = []
    bases: list[NDArray[np.str_]] = []
    shape: tuple[int, ...] | None = None
    with _codes_file(path).open("wb") as raw:
        for versions in pictures:
            parts = [movq.encode_codes(p.to(device)) for p in versions.pixels.flatten(0, 1).split(batch_size)]
            codes = torch.cat(parts).unflatten(0, versions.pixels.shape[:2])
            raw.write(codes.cpu().numpy().astype(CODE).tobytes())
            classes.append(versions.classes)
            bases.append(versions.bases)
            shape = tuple(codes.shape[1:])
    if shape is None:
        raise ValueError("no pictures to encode")
    np.savez(path, classes=np.concatenate(classes), bases=np.concatenate(bases), shape=np.array(shape))
    return sum(map(len, classes))


def emoji_versions(emoji: EmojiSet, count: int, reach: int, rng: np.random.Generator) -> Iterator[Versions]:
    """Each picture on white in `count` versions: itself, then moved and mirrored ones."""
    for start in range(0, len(emoji.images), PICTURES_AT_ONCE):
        some = emoji.select(slice(start, start + PICTURES_AT_ONCE))
        made = [some.images]
        for _ in range(count - 1):
            mirror = (rng.random(len(some.images)) < 0.5) & (some.classes != NEVER_MIRRORED)
            made.append(flipped(shifted(some.images, reach, rng), mirror))
        pixels = torch.stack([to_pixels(composite(images, WHITE)) for images in made], dim=1)
        yield Versions(pixels, some.classes, some.bases)


def load_heldout(data: Path) -> EmojiSet:
    """The held-out emoji that have a class, one picture a base."""
    emoji = load_emoji(data, "heldout").one_per_base()
    return emoji.select(emoji.classes >= 0)


def main(
    data: Annotated[Path, typer.Option(help="folder of prepare_data")] = Path("data/emoji-64"),
    bundle: Annotated[Path, typer.Option(help="a bundle with a tokenizer")] = Path("models/emoji-64"),
    out: Annotated[Path, typer.Option(help="where the codes go")] = Path("data/emoji-64/codes"),
    count: Annotated[int, typer.Option(min=1, help="versions of each training picture")] = 8,
    reach: Annotated[int, typer.Option(min=0, help="pixels that an emoji's version may move")] = 2,
    folder: Annotated[Path | None, typer.Option(help="instead: a folder of images or class folders")] = None,
    shards: Annotated[str | None, typer.Option(help="instead: 'train-{000..099}.tar'")] = None,
    heldout_shards: Annotated[str | None, typer.Option(help="with --shards: those held out")] = None,
    fit: Annotated[Fit, typer.Option(help="how images of a folder or of shards become squares")] = Fit.CROP,
    flip: Annotated[bool, typer.Option(help="mirror half of them")] = True,
    seed: int = 0,
) -> None:
    """Encode the pictures; of the demo's those that have a class. Held-out ones as they are, one a base."""
    tokenizer = ModelBundle.load(bundle)
    rng = np.random.default_rng(seed)
    framing = Framing(tokenizer.manifest.movq.image_size, fit)
    pictures: dict[str, Iterable[Versions]]
    if shards is not None:
        pictures = {"train": Shards.open(shards, framing).versions(count, flip, rng)}
        if heldout_shards is not None:
            pictures["heldout"] = Shards.open(heldout_shards, framing).versions(1)
    elif folder is not None:
        images = load_folder(folder, framing, out / "images")
        pictures = {"train": images.train.versions(count, flip, rng), "heldout": images.heldout.versions(1)}
    else:
        emoji = load_emoji(data, "train")
        pictures = {
            "train": emoji_versions(emoji.select(emoji.classes >= 0), count, reach, rng),
            "heldout": emoji_versions(load_heldout(data), 1, 0, rng),
        }
    for split, versions in pictures.items():
        number = write_codes(tokenizer.movq, track(versions, f"codes {split}"), out / f"{split}.npz")
        typer.echo(f"{split}: {number} pictures")
    typer.echo(f"codes of {bundle / MOVQ_FILE} in {out}")


if __name__ == "__main__":
    typer.run(main)
