"""Measures: the networks to measure with, from the files that are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from movq_core.training.evaluation.features import (
    FeatureNetwork,
    InceptionFeatures,
    load_inception,
    load_lpips,
)
from movq_core.training.evaluation.lpips import LPIPS
from movq_core.training.evaluation.pictures import Pictures
from movq_core.training.evaluation.statistics import FeatureStatistics
from movq_core.training.evaluation.weights_file import ALEXNET, INCEPTION, VGG16, Published, WeightsError


@dataclass(frozen=True)
class Measures:
    """Networks, the device, and how many images go through at once.

    `reference` are statistics of real images, to take in place of those at hand. Figures that need a network
    which is None are left out, and said to be.
    """

    lpips: LPIPS | None = None
    network: FeatureNetwork | None = None
    reference: FeatureStatistics | None = None
    device: str = "cpu"
    batch_size: int = 16

    def features(self, batches: Iterable[Tensor]) -> Tensor | None:
        """Features (N, D), on the CPU, of batches (B, 3, h, w), 0 to 255; None without a network."""
        if self.network is None:
            return None
        return torch.cat([self.network.features(images.to(self.device)).cpu() for images in batches])

    def batches(self, pictures: Pictures, what: str) -> Iterator[Tensor]:
        """The pictures on the device, with a bar that says `what` is done with them."""
        for images in track(pictures.batches(self.batch_size), what):
            yield images.to(self.device)


@dataclass(frozen=True)
class WeightsPaths:
    """Where the published weights may be: each in its own file, or all that there are in `folder`."""

    lpips: Path | None = None
    inception: Path | None = None
    folder: Path | None = None
    allow_unknown: bool = False

    def check(self) -> None:
        """Raises WeightsError for a folder with none of the files that are looked for."""
        wanted = (VGG16, ALEXNET, INCEPTION)
        if self.folder is not None and not any(self._in_folder(file) for file in wanted):
            names = ", ".join(file.name for file in wanted)
            raise WeightsError(f"{self.folder} holds none of {names}")

    def load_lpips(self, device: str) -> LPIPS | None:
        """LPIPS, if there is a file of it; raises WeightsError."""
        path = self.lpips or self._in_folder(VGG16) or self._in_folder(ALEXNET)
        return load_lpips(path, allow_unknown=self.allow_unknown).to(device) if path else None

    def load_inception(self, device: str) -> InceptionFeatures | None:
        """FID's network, if there is a file of it; raises WeightsError."""
        path = self.inception or self._in_folder(INCEPTION)
        return InceptionFeatures(load_inception(path, self.allow_unknown).to(device)) if path else None

    def _in_folder(self, file: Published) -> Path | None:
        path = self.folder / file.name if self.folder else None
        return path if path and path.is_file() else None
