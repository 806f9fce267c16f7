"""How far two sets of images are apart, by their features: KID, precision and recall; and IS of one set."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
NEIGHBOURS = 3
IS_SPLITS, IS_IMAGES_A_SPLIT = 10, 500
DISTANCES_AT_ONCE = 1 << 25  # of float64: 256 MiB


class MeanAndDeviation(NamedTuple):
    """Of parts of the data; the deviation is None where there was one part."""

    mean: float
    deviation: float | None


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD of features a (N, D), b (M, D) with the kernel (x.y / D + 1)^3.

    About zero, and as often below it, where both are of one distribution.
    """
    a, b = a.double(), b.double()
    within = [(_kernel(x, x).sum() - _kernel_diagonal(x).sum()) / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(within[0] + within[1] - 2.0 * _kernel(a, b).mean())


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.t() / a.shape[1] + 1.0).pow(3)


def _kernel_diagonal(a: Tensor) -> Tensor:
    return (a.square().sum(1) / a.shape[1] + 1.0).pow(3)


def kid(a: Tensor, b: Tensor, seed: int = 0) -> MeanAndDeviation:
    """KID (Binkowski et al. 2018) over 100 subsets of 1000; of smaller sets once, of all there is.

    a (N, D), b (M, D), two images in each at least.
    """
    if min(len(a), len(b)) <= KID_SUBSET_SIZE:
        return MeanAndDeviation(kernel_distance(a, b), None)
    rng = np.random.default_rng(seed)
    distances = [
        kernel_distance(*(x[rng.choice(len(x), KID_SUBSET_SIZE, replace=False)] for x in (a, b)))
        for _ in range(KID_SUBSETS)
    ]
    return MeanAndDeviation(float(np.mean(distances)), float(np.std(distances)))


class PrecisionRecall(NamedTuple):
    """Share of generated images within the real ones' reach, and of real ones within the generated ones'."""

    precision: float
    recall: float


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Kynkaanniemi et al. 2019: an image reaches as far as its `neighbours`-th nearest of its own set.

    real (N, D), generated (M, D), both of more than `neighbours` images.
    """
    real, generated = real.double(), generated.double()
    return PrecisionRecall(
        _share_within(generated, real, neighbours), _share_within(real, generated, neighbours)
    )


def _share_within(asked: Tensor, known: Tensor, neighbours: int) -> float:
    """Share of `asked` that lie in the ball of one of `known` at least."""
    if len(known) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more images than {len(known)}")
    rows = max(1, DISTANCES_AT_ONCE // len(known))
    # The nearest of all is the image itself, at distance zero.
    reach = torch.cat([_distances(x, known).kthvalue(neighbours + 1).values for x in known.split(rows)])
    within = [(_distances(x, known) <= reach).any(1) for x in asked.split(rows)]
    return float(torch.cat(within).double().mean())


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Exact: by way of |a|^2 + |b|^2 - 2ab an image would lie at some distance from itself."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def inception_score(logits: Tensor, seed: int = 0) -> MeanAndDeviation:
    """exp of the mean KL of p(y|x) from p(y) (Salimans et al. 2016), over 10 shuffled splits.

    logits (N, K). Fewer than 5000 images are one split: the score of a small split is far too low.
    """
    splits = IS_SPLITS if len(logits) >= IS_SPLITS * IS_IMAGES_A_SPLIT else 1
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(seed))
    scores = [_score(part.log_softmax(1)) for part in logits.double()[order].tensor_split(splits)]
    return MeanAndDeviation(float(np.mean(scores)), float(np.std(scores)) if splits > 1 else None)


def _score(log_p: Tensor) -> float:
    p = log_p.exp()
    entropy = torch.special.entr(p).sum(1).mean()
    return float((torch.special.entr(p.mean(0)).sum() - entropy).exp())
