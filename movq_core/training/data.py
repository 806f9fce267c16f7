"""Where the tokenizer's batches come from: `PixelBatches`, and the demo's emoji and photographs in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PixelBatches(Protocol):
    """A source of batches for the tokenizer, the same on every rank.

    `rng` and the source's own position advance by the whole batch of an optimiser step, whatever `part` of
    it a rank asks for: so ranks stay in step, and a run may go on with another number of them.
    """

    @property
    def batch_size(self) -> int:
        """Images of one optimiser step over all ranks."""
        ...

    def draw(self, rng: np.random.Generator, part: slice) -> Tensor:
        """Rows `part` of the next batch: (n, 3, S, S) float32 in [-1, 1]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its position in the data, numbers and strings only; empty where `rng` alone decides."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict()`'s position."""
        ...


def base_weights(bases: NDArray[np.str_]) -> NDArray[np.float64]:
    """Probabilities (N,) with which each distinct base is drawn equally often."""
    _, inverse, counts = np.unique(bases, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / counts[inverse] / len(counts)
    return weights


@dataclass(frozen=True)
class EmojiSet:
    """`images` (N, S, S, 4) uint8 RGBA; `classes` (N,), -1 for none; `bases`, `names` (N,)."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64]
    bases: NDArray[np.str_]
    names: NDArray[np.str_]

    def one_per_base(self) -> EmojiSet:
        """The first picture of each base: variants of one drawing count once in a figure."""
        _, first = np.unique(self.bases, return_index=True)
        return self.select(np.sort(first))

    def select(self, which: NDArray[Any] | slice) -> EmojiSet:
        """The pictures at the indices, or where the booleans, `which` say."""
        return EmojiSet(self.images[which], self.classes[which], self.bases[which], self.names[which])


def load_emoji(folder: Path, split: str) -> EmojiSet:
    """`split` is "train" or "heldout", as `prepare_data` wrote it."""
    with np.load(folder / f"emoji_{split}.npz") as data:
        return EmojiSet(data["images"], data["classes"], data["bases"], data["names"])


def load_photographs(folder: Path, split: str) -> NDArray[np.uint8]:
    """Patches (M, P, P, 3) uint8, P larger than the training size."""
    with np.load(folder / f"photos_{split}.npz") as data:
        images: NDArray[np.uint8] = data["images"]
        return images


def composite(rgba: NDArray[np.uint8], background: NDArray[Any]) -> NDArray[np.float32]:
    """RGBA (B, S, S, 4) over `background` (B or 1, 3), 0 to 255: RGB float32 (B, S, S, 3)."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    under = np.asarray(background, np.float32)[:, None, None, :]
    return rgba[..., :3].astype(np.float32) * alpha + under * (1.0 - alpha)


WHITE = np.full((1, 3), 255.0)


def to_pixels(rgb: NDArray[Any]) -> Tensor:
    """RGB (B, S, S, 3), 0 to 255 -> (B, 3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb, np.float32)).permute(0, 3, 1, 2).div(127.5).sub(1.0)


def shifted(images: NDArray[np.uint8], reach: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image moved by up to `reach` pixels; what comes in is transparent (zero)."""
    size = images.shape[1]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    corners = rng.integers(0, 2 * reach + 1, (len(images), 2))
    return np.stack([p[y : y + size, x : x + size] for p, (y, x) in zip(padded, corners, strict=True)])


def flipped(images: NDArray[np.uint8], flip: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mirror the images where `flip` (B,) says so."""
    return np.where(flip[:, None, None, None], images[:, :, ::-1], images)


@dataclass(frozen=True)
class Crops:
    """What a batch shows of its squares: windows with their upper left at `corners` (n, 2), some mirrored."""

    corners: NDArray[np.int64]
    mirrored: NDArray[np.bool_]

    @classmethod
    def draw(cls, count: int, room: int, flip: bool, rng: np.random.Generator) -> Crops:
        """Anywhere in squares that have `room` pixels more than the window; half mirrored where `flip`."""
        corners = rng.integers(0, room + 1, (count, 2))
        return cls(corners, (rng.random(count) < 0.5) & flip)

    @classmethod
    def central(cls, count: int, room: int) -> Crops:
        return cls(np.full((count, 2), room // 2), np.zeros(count, np.bool_))

    def __getitem__(self, part: slice) -> Crops:
        return Crops(self.corners[part], self.mirrored[part])

    def of(self, squares: NDArray[np.uint8], size: int) -> Tensor:
        """Squares (n, P, P, 3) -> pixels (n, 3, size, size) in [-1, 1]."""
        windows = [
            square[y : y + size, x : x + size] for square, (y, x) in zip(squares, self.corners, strict=True)
        ]
        return to_pixels(flipped(np.stack(windows), self.mirrored))


def versions_of(
    squares: NDArray[np.uint8], size: int, count: int, flip: bool, rng: np.random.Generator
) -> Tensor:
    """Squares (n, P, P, 3) in `count` versions, the middle, then random crops: (n, count, 3, size, size)."""
    room = squares.shape[1] - size
    crops = [Crops.central(len(squares), room)]
    crops += [Crops.draw(len(squares), room, flip, rng) for _ in range(count - 1)]
    return torch.stack([c.of(squares, size) for c in crops], dim=1)


@dataclass(frozen=True)
class Versions:
    """Some pictures in V versions each, to be encoded: `pixels` (n, V, 3, S, S); `classes`, `bases` (n,)."""

    pixels: Tensor
    classes: NDArray[np.int64]
    bases: NDArray[np.str_]


@dataclass(frozen=True)
class TokenizerBatches:
    """Batches for the tokenizer: `emoji_share` emoji, the rest photograph patches.

    Each base emoji is drawn equally often, so that skin tones do not crowd the rest out. It is shifted,
    mirrored, and in a quarter of the cases laid on a random colour instead of white; a patch is cropped from
    a larger one and mirrored.
    """

    emoji: EmojiSet
    photographs: NDArray[np.uint8]
    batch_size: int
    emoji_share: float = 0.7

    @cached_property
    def emoji_weights(self) -> NDArray[np.float64]:
        return base_weights(self.emoji.bases)

    def draw(self, rng: np.random.Generator, part: slice = slice(None)) -> Tensor:
        """Rows `part` of a batch: (n, 3, S, S) in [-1, 1]. All rows are made, being cheap."""
        count = int(rng.binomial(self.batch_size, self.emoji_share))
        emoji = to_pixels(self._draw_emoji(count, rng))
        patches = to_pixels(self._draw_patches(self.batch_size - count, rng))
        return torch.cat([emoji, patches])[part]

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: `rng` alone decides."""

    def _draw_emoji(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        chosen = rng.choice(len(self.emoji.images), count, p=self.emoji_weights)
        rgba = self.emoji.images[chosen]
        rgba = flipped(shifted(rgba, 4, rng), rng.random(count) < 0.5) if count else rgba
        coloured = rng.random((count, 1)) < 0.25
        return composite(rgba, np.where(coloured, rng.uniform(0, 255, (count, 3)), WHITE))

    def _draw_patches(self, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        size = self.emoji.images.shape[1]
        room = self.photographs.shape[1] - size + 1
        chosen = self.photographs[rng.integers(0, len(self.photographs), count)]
        corners = rng.integers(0, room, (count, 2))
        cropped = [c[y : y + size, x : x + size] for c, (y, x) in zip(chosen, corners, strict=True)]
        patches = np.stack(cropped) if count else chosen[:, :size, :size]
        return flipped(patches, rng.random(count) < 0.5)


def heldout_emoji(folder: Path) -> tuple[EmojiSet, Tensor]:
    """The held-out base emoji, one picture a base, on white: the set and (N, 3, S, S) in [-1, 1]."""
    emoji = load_emoji(folder, "heldout").one_per_base()
    return emoji, to_pixels(composite(emoji.images, WHITE))


def heldout_patches(folder: Path, size: int) -> Tensor:
    """The centres of the patches of held-out photographs: (M, 3, size, size) in [-1, 1]."""
    patches = load_photographs(folder, "heldout")
    start = (patches.shape[1] - size) // 2
    return to_pixels(patches[:, start : start + size, start : start + size])
