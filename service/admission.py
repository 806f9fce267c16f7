"""Admission: may these images still enter the queue?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from movq_core.errors import QueueFull

SHORTEST_RETRY_S = 1
LONGEST_RETRY_S = 120
RETRY_WITHOUT_A_RATE_S = 30


@dataclass(frozen=True)
class Load:
    """What is in the house: jobs, and the images that they stand for."""

    queued_jobs: int
    queued_images: int
    running_jobs: int
    running_images: int

    @property
    def images(self) -> int:
        return self.queued_images + self.running_images


@dataclass(frozen=True)
class Admission:
    """A bound on the images queued and in flight together."""

    max_images: int

    def check(self, images: int, load: Load, images_per_s: Callable[[], float]) -> None:
        """Raises QueueFull when `images` more are too many.

        `images_per_s` is asked only then: the rate at which images were finished lately, 0 if none.
        """
        excess = load.images + images - self.max_images
        if excess <= 0:
            return
        raise QueueFull(
            f"The queue is full: {load.images} images are waiting or running, and at most "
            f"{self.max_images} may; this request would add {images}.",
            retry_after_s=_retry_after_s(excess, images_per_s()),
        )


def _retry_after_s(excess: int, images_per_s: float) -> int:
    """Seconds until `excess` images have left at the measured rate."""
    if images_per_s <= 0:
        return RETRY_WITHOUT_A_RATE_S
    return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, math.ceil(excess / images_per_s)))
