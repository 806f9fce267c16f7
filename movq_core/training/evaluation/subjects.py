"""What `movq evaluate` measures: a tokenizer's reconstructions, a prior's samples, a folder of images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor

from movq_core.bundle import ModelBundle
from movq_core.models.movq import MoVQ
from movq_core.sampling.generate import generate_codes
from movq_core.training.evaluate import quantised_to_8_bits
from movq_core.training.evaluation.code_counts import CodeCounts
from movq_core.training.evaluation.distributions import NEIGHBOURS, inception_score, kid, precision_recall
from movq_core.training.evaluation.features import InceptionFeatures, padded
from movq_core.training.evaluation.figures import Figure
from movq_core.training.evaluation.measures import Measures
from movq_core.training.evaluation.pictures import Pictures
from movq_core.training.evaluation.similarity import Similarity
from movq_core.training.evaluation.statistics import FeatureStatistics, frechet_distance
from movq_core.training.image_file import UnusableData

FID_NEEDS = "needs the FID Inception's weights: --inception-weights, --weights-dir"


@dataclass(frozen=True)
class Reconstructions:
    """A tokenizer's figures on a folder; features (N, D) of its images, None without a network."""

    figures: list[Figure]
    real: Tensor | None


def evaluate_tokenizer(movq: MoVQ, pictures: Pictures, measures: Measures) -> Reconstructions:
    """Reconstruct the pictures, each at its size, and compare them with what comes back."""
    similarity, counts = Similarity(pictures.smallest_side, measures.lpips), CodeCounts(movq.config)
    real: list[Tensor] = []
    ours: list[Tensor] = []
    for images in measures.batches(pictures, "reconstructions"):
        copies, codes = reconstruct_images(movq, images)
        similarity.add(copies, images)
        counts.add(codes, images[:, 0].numel())
        if measures.network is not None:
            real.append(measures.network.features(images).cpu())
            ours.append(measures.network.features(copies).cpu())
    features = torch.cat(real) if real else None
    distances = distribution_figures(
        measures, features, torch.cat(ours) if ours else None, reconstructed=True
    )
    return Reconstructions([*similarity.figures(), *counts.figures(), *distances], features)


@torch.inference_mode()
def reconstruct_images(movq: MoVQ, images: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, h, w), 0 to 255, of any size: what comes back of them, as 8 bits, and their codes."""
    height, width = images.shape[-2:]
    codes = movq.encode_codes(padded(images / 127.5 - 1.0, movq.config.downsampling_factor))
    return quantised_to_8_bits(movq.decode_codes(codes)[..., :height, :width]), codes


def sample_images(bundle: ModelBundle, count: int) -> Iterator[Tensor]:
    """`count` images (1, 3, h, w), 0 to 255: the classes in turn, seeds 0, 1, ..., the bundle's own sampling.

    Raises UnusableData for a bundle without a prior.
    """
    prior = bundle.maskgit
    if prior is None:
        raise UnusableData(f"{bundle.manifest.name} has no prior: it cannot generate")
    for seed in track(range(count), "samples"):
        class_id = seed % prior.config.num_classes if prior.config.num_classes else None
        sampling = bundle.manifest.sampling.model_copy(update={"seed": seed})
        with torch.inference_mode():
            yield quantised_to_8_bits(bundle.movq.decode_codes(generate_codes(prior, class_id, sampling)))


def evaluate_samples(
    bundle: ModelBundle, count: int, real: Tensor | None, measures: Measures
) -> list[Figure]:
    """Generate `count` images and compare them with the real ones' features (N, D)."""
    features = measures.features(sample_images(bundle, count))
    return [Figure("samples", count, "", "classes in turn"), *distribution_figures(measures, real, features)]


def evaluate_folders(
    real: Pictures | None, generated: Pictures, measures: Measures
) -> tuple[dict[str, list[Figure]], Tensor | None]:
    """Figures of pairs by name and of the distributions; the real images' features (N, D).

    `real` may be None where there is a reference.
    """
    pairs = paired_figures(real, generated, measures) if real else []
    known = measures.features(measures.batches(real, "real images")) if real else None
    others = measures.features(measures.batches(generated, "generated images"))
    distances = distribution_figures(measures, known, others)
    return {**({"pairs": pairs} if pairs else {}), "distributions": distances}, known


def paired_figures(real: Pictures, generated: Pictures, measures: Measures) -> list[Figure]:
    """Of the images that have a name in both folders; nothing where none has.

    Raises UnusableData where a pair's sizes differ.
    """
    names = [name for name in real.files if name in generated.files]
    if not names:
        return []
    similarity = Similarity(real.smallest_side, measures.lpips)
    both = zip(
        real.batches(measures.batch_size, names), generated.batches(measures.batch_size, names), strict=False
    )
    done = 0
    for images, copies in track(both, "pairs"):
        # Batches end where the shape changes: if all are alike, so are all the images.
        if images.shape != copies.shape:
            raise UnusableData(
                f"{names[done]} or an image soon after it has another size in {generated.root} "
                f"than in {real.root}: --view crop makes squares of both"
            )
        similarity.add(copies.to(measures.device), images.to(measures.device))
        done += len(images)
    return [Figure("pairs", len(names), "", "images with a name in both folders"), *similarity.figures()]


def distribution_figures(
    measures: Measures, real: Tensor | None, generated: Tensor | None, reconstructed: bool = False
) -> list[Figure]:
    """How far `generated` (M, D) is from `real` (N, D), or from the reference in its place.

    The names tell whose features they are of: FID, rFID, KID and IS alone stand for the Inception's.
    """
    network = measures.network
    if network is None or generated is None:
        return [Figure("rFID" if reconstructed else "FID", None, "", FID_NEEDS)]
    is_inception = isinstance(network, InceptionFeatures)
    features = "" if is_inception else f" ({network.kind} features)"
    frechet = ("rFID" if reconstructed else "FID") if is_inception else f"Frechet distance{features}"
    figures = [_frechet(frechet, measures, network.name, real, generated)]
    if real is not None and not reconstructed:  # KID is unbiased of independent sets only, not of copies
        figures.append(_kid(f"KID{features}", real, generated))
        figures += _precision_recall(features, real, generated)
    if isinstance(network, InceptionFeatures) and not reconstructed:
        score = inception_score(network.logits(generated))
        figures.append(Figure("IS", score.mean, "", _spread(score.deviation, f"{len(generated)} images")))
    return figures


def _frechet(name: str, measures: Measures, network: str, real: Tensor | None, generated: Tensor) -> Figure:
    reference = measures.reference
    if reference is None:
        assert real is not None
        reference = FeatureStatistics.of(real, network)
    distance = frechet_distance(reference, FeatureStatistics.of(generated, network))
    known = "reference" if reference.count is None else f"{reference.count} real"
    note = f"{known}, {len(generated)} others, {generated.shape[1]} features"
    if len(generated) <= generated.shape[1]:
        note += ": fewer images than features, far too high"
    return Figure(name, distance, "", note)


def _kid(name: str, real: Tensor, generated: Tensor) -> Figure:
    if min(len(real), len(generated)) < 2:
        return Figure(name, None, "", "needs two images of each kind")
    measured = kid(real, generated)
    return Figure(name, measured.mean, "", _spread(measured.deviation, "all images at once"))


def _precision_recall(features: str, real: Tensor, generated: Tensor) -> list[Figure]:
    names = [f"precision{features}", f"recall{features}"]
    if min(len(real), len(generated)) <= NEIGHBOURS:
        return [Figure(name, None, "", f"needs more than {NEIGHBOURS} images of each kind") for name in names]
    note = f"k = {NEIGHBOURS}, {len(real)} real, {len(generated)} generated"
    measured = precision_recall(real, generated)
    return [Figure(name, value, "", note) for name, value in zip(names, measured, strict=True)]


def _spread(deviation: float | None, otherwise: str) -> str:
    return otherwise if deviation is None else f"+- {deviation:.2g} over parts of the images"
