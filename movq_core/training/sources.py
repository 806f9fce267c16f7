"""Where the tokenizer's pixels come from: the demo's pictures, a folder of images, or shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from movq_core.training.data import (
    PixelBatches,
    TokenizerBatches,
    heldout_emoji,
    heldout_patches,
    load_emoji,
    load_photographs,
)
from movq_core.training.distributed import Ranks
from movq_core.training.folder import load_folder
from movq_core.training.image_file import Framing
from movq_core.training.image_set import FolderBatches
from movq_core.training.shards import ShardBatches, Shards

HELD_OUT_PARTS = 8  # of 64 images: enough of a shard for a figure


@dataclass(frozen=True)
class Pixels:
    """Batches to learn from; held-out pixels (N, 3, S, S) in [-1, 1] by name, perhaps none."""

    batches: PixelBatches
    held_out: Mapping[str, Tensor] = field(default_factory=dict)


def demo_pixels(data: Path, size: int, batch_size: int, emoji_share: float) -> Pixels:
    """What `prepare_data` wrote to the folder `data`; the rest of a batch are patches of photographs."""
    emoji, photographs = load_emoji(data, "train"), load_photographs(data, "train")
    batches = TokenizerBatches(emoji, photographs, batch_size, emoji_share)
    return Pixels(batches, {"emoji": heldout_emoji(data)[1], "photographs": heldout_patches(data, size)})


def folder_pixels(
    folder: Path, framing: Framing, flip: bool, cache: Path, batch_size: int, ranks: Ranks
) -> Pixels:
    """A folder of images or of class folders; the first rank reads it, the others what it remembers."""
    with ranks.first_goes_first():
        images = load_folder(folder, framing, cache)
    return Pixels(FolderBatches(images.train, batch_size, flip), {"images": images.heldout.pixels()})


def shard_pixels(
    shards: str, heldout: str | None, framing: Framing, flip: bool, batch_size: int, seed: int
) -> Pixels:
    """Shards by WebDataset's notation; of those held out the first images."""
    batches = ShardBatches(Shards.open(shards, framing), batch_size, seed, flip=flip)
    if heldout is None:
        return Pixels(batches)
    parts = islice(Shards.open(heldout, framing).versions(1), HELD_OUT_PARTS)
    return Pixels(batches, {"images": torch.cat([part.pixels[:, 0] for part in parts])})
