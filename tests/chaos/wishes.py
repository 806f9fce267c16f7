"""Wishes: what the clients of a house ask for; a seeded stream of small jobs of all kinds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from movq_core.picture import encode_image
from movq_core.protocol import ImageFormat
from tests.chaos.cursed_worker import UNLUCKY_SEED
from worker.fakes import TINY

SEEDS = 40  # distinct ones: what was asked before is compared with what it gave then
PICTURES = 6
_SIZES = (16, 24)


@dataclass(frozen=True)
class Wish:
    """A request over HTTP: JSON, or a picture."""

    path: str
    json: dict[str, Any] | None = None
    picture: bytes | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """Arguments of httpx' `post`."""
        if self.picture is None:
            return {"json": self.json}
        return {"files": {"image": ("image.png", self.picture, "image/png")}}


def generation(seed: int, *, steps: int = 12, num_images: int = 1, **more: Any) -> Wish:
    body = {"class_id": seed % len(TINY.labels), "seed": seed, "steps": steps, "num_images": num_images}
    return Wish("/v1/generations", {**body, **more})


def unlucky(steps: int = 12) -> Wish:
    """What a cursed device stumbles over."""
    return generation(UNLUCKY_SEED, steps=steps)


def wishes(seed: int, *, longest_steps: int = 24) -> Iterator[Wish]:
    """For ever: mostly images, some pictures there and back, on all three queues."""
    chance = random.Random(seed)
    pictures = [_picture(number) for number in range(PICTURES)]
    while True:
        if chance.random() < 0.15:
            path = chance.choice(["/v1/reconstructions", "/v1/encodings"])
            yield Wish(path, picture=chance.choice(pictures))
            continue
        yield generation(
            100 + chance.randrange(SEEDS),
            steps=chance.choice([4, 8, longest_steps]),
            num_images=chance.randint(1, 4),
            priority=chance.choice(["high", "normal", "normal", "low"]),
        )


def _picture(number: int) -> bytes:
    size = _SIZES[number % len(_SIZES)]
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return encode_image(pixels, ImageFormat.PNG)
