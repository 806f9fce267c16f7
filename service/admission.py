"""Admission: may these images still enter the queue, and how long will those in it wait?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from movq_core.errors import QueueFull
from movq_core.protocol import Priority
from service.pace import InFlight, seconds_until_gone

SHORTEST_RETRY_S = 1
LONGEST_RETRY_S = 120
RETRY_WITHOUT_A_RATE_S = 30


@dataclass(frozen=True)
class Count:
    """Jobs, and the images that they stand for."""

    jobs: int = 0
    images: int = 0


@dataclass(frozen=True)
class Load:
    """What is in the house of one bundle: who waits in which queue, who runs, and how fast they leave."""

    queued: Mapping[Priority, Count] = field(default_factory=dict)
    in_flight: Sequence[InFlight] = ()
    images_per_s: float = 0.0  # finished lately; 0 when none was
    steps_an_image: float = 1.0  # of these

    @property
    def queued_jobs(self) -> int:
        return sum(count.jobs for count in self.queued.values())

    @property
    def queued_images(self) -> int:
        return sum(count.images for count in self.queued.values())

    @property
    def running_jobs(self) -> int:
        return len(self.in_flight)

    @property
    def running_images(self) -> int:
        return sum(job.images for job in self.in_flight)

    @property
    def images(self) -> int:
        return self.queued_images + self.running_images

    def retry_after_s(self, images: int) -> int:
        """Seconds until `images` images have left, in whole ones as HTTP has them."""
        if self.images_per_s <= 0:
            return RETRY_WITHOUT_A_RATE_S
        gone_s = seconds_until_gone(images, self.in_flight, self.images_per_s, self.steps_an_image)
        wait_s = math.ceil(gone_s)
        return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, wait_s))

    def estimated_wait_s(self, priority: Priority, position: int) -> float | None:
        """Seconds until the job at `position` of its queue (1 is next) is taken; None without a rate.

        An estimate: jobs of a queue are taken to be of one size, and each image of its own queue lets in
        as many of the others' as their weights say, if there are so many. Who comes later is not foreseen.
        """
        if self.images_per_s <= 0:
            return None
        own = self.queued.get(priority, Count())
        in_own = (position - 1) * own.images / own.jobs if own.jobs else 0.0
        in_others = sum(
            min(count.images, (in_own + 1) * other.weight / priority.weight)
            for other, count in self.queued.items()
            if other is not priority
        )
        return (in_own + in_others) / self.images_per_s


@dataclass(frozen=True)
class Admission:
    """A bound on a bundle's images, queued and in flight together."""

    max_images: int

    def check(self, images: int, load: Load) -> None:
        """Raises QueueFull when `images` more are too many."""
        excess = load.images + images - self.max_images
        if excess <= 0:
            return
        raise QueueFull(
            f"The queue is full: {load.images} images are waiting or running, and at most "
            f"{self.max_images} may; this request would add {images}.",
            retry_after_s=load.retry_after_s(excess),
        )
