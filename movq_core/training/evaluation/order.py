"""EvaluationOrder: what `movq evaluate` was asked to measure, and the measuring from end to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from movq_core.bundle import ModelBundle
from movq_core.errors import InvalidRequest
from movq_core.manifest import fingerprint
from movq_core.training.evaluation.features import EncoderFeatures
from movq_core.training.evaluation.figures import Figure
from movq_core.training.evaluation.measures import Measures, WeightsPaths
from movq_core.training.evaluation.pictures import Pictures, View
from movq_core.training.evaluation.statistics import FeatureStatistics
from movq_core.training.evaluation.subjects import evaluate_folders, evaluate_samples, evaluate_tokenizer

PAIR_SIDE = 256  # pixels of squares, where neither --size nor a bundle says


@dataclass(frozen=True)
class Evaluation:
    """Figures by group, and what they are of, fit for JSON."""

    about: dict[str, Any]
    groups: dict[str, list[Figure]]


@dataclass(frozen=True)
class EvaluationOrder:
    """Either `images` for a `bundle` to reconstruct, or a pair: `generated`, and `real` or a `reference`.

    `samples` are generated and compared with `images`. None for `view` crops `images` and leaves a pair as
    it is; None for `size` is the bundle's.
    """

    bundle: Path | None = None
    images: Path | None = None
    samples: int = 0
    real: Path | None = None
    generated: Path | None = None
    view: View | None = None
    size: int | None = None
    weights: WeightsPaths = field(default_factory=WeightsPaths)
    reference: Path | None = None
    save_statistics: Path | None = None
    device: str = "cpu"
    batch_size: int = 16

    def check(self) -> None:
        """Raises InvalidRequest for what does not go together."""
        if (self.images is None) == (self.generated is None):
            raise InvalidRequest("give a bundle and --images, or --generated with --real or --reference")
        if self.images and not self.bundle:
            raise InvalidRequest("--images needs a bundle that reconstructs them")
        if self.images and self.real:
            raise InvalidRequest("--real goes with --generated; --images are the real ones already")
        if self.generated and not (self.real or self.reference):
            raise InvalidRequest("--generated needs --real or --reference to compare with")
        if self.samples and not self.images:
            raise InvalidRequest("--samples needs --images to compare with")
        if self.save_statistics and not (self.images or self.real):
            raise InvalidRequest("--save-statistics needs real images: --images or --real")
        self.weights.check()

    def run(self) -> Evaluation:
        """Measure; raises MovqError."""
        self.check()
        bundle = ModelBundle.load(self.bundle, self.device) if self.bundle else None
        measures = self._measures(bundle)
        if self.images is not None:
            assert bundle is not None
            groups, real = self._of_bundle(bundle, self.images, measures)
        else:
            groups, real = self._of_pair(bundle, measures)
        if self.save_statistics is not None:
            assert real is not None  # there are real images and a network
            assert measures.network is not None
            FeatureStatistics.of(real, measures.network.name).save(self.save_statistics)
        return Evaluation(self._about(measures), groups)

    def _measures(self, bundle: ModelBundle | None) -> Measures:
        """The Inception's features where its weights are, else the bundle's encoder's."""
        network = self.weights.load_inception(self.device)
        stand_in = EncoderFeatures(bundle.movq, self._fingerprint) if bundle else None
        if (self.reference or self.save_statistics) and not (network or stand_in):
            raise InvalidRequest("statistics need features: --inception-weights, or a bundle's encoder")
        reference = FeatureStatistics.load(self.reference) if self.reference else None
        lpips = self.weights.load_lpips(self.device)
        return Measures(lpips, network or stand_in, reference, self.device, self.batch_size)

    def _of_bundle(
        self, bundle: ModelBundle, images: Path, measures: Measures
    ) -> tuple[dict[str, list[Figure]], Tensor | None]:
        if self.samples and bundle.maskgit is None:
            raise InvalidRequest(f"{bundle.manifest.name} has no prior: it cannot generate samples")
        pictures = Pictures.open(images, self._view, self._side(bundle))
        reconstructions = evaluate_tokenizer(bundle.movq, pictures, measures)
        groups = {"reconstruction": reconstructions.figures}
        if self.samples:
            groups["samples"] = evaluate_samples(bundle, self.samples, reconstructions.real, measures)
        return groups, reconstructions.real

    def _of_pair(
        self, bundle: ModelBundle | None, measures: Measures
    ) -> tuple[dict[str, list[Figure]], Tensor | None]:
        assert self.generated is not None
        side = self._side(bundle)
        real = Pictures.open(self.real, self._view, side) if self.real else None
        generated = Pictures.open(self.generated, self._view, side)
        return evaluate_folders(real, generated, measures)

    @property
    def _view(self) -> View:
        return self.view or (View.CROP if self.images or self.size else View.WHOLE)

    def _side(self, bundle: ModelBundle | None) -> int:
        return self.size or (bundle.manifest.movq.image_size if bundle else PAIR_SIDE)

    @property
    def _fingerprint(self) -> str:
        assert self.bundle is not None
        return fingerprint(self.bundle)

    def _about(self, measures: Measures) -> dict[str, Any]:
        folders = {"images": self.images, "real": self.real, "generated": self.generated}
        return {
            "bundle": {"path": str(self.bundle), "fingerprint": self._fingerprint} if self.bundle else None,
            **{name: str(folder) for name, folder in folders.items() if folder},
            "view": self._view.value,
            "features": measures.network.name if measures.network else None,
            "lpips": measures.lpips.name if measures.lpips else None,
        }
