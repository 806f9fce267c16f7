"""Mean and covariance of features, on disk as an .npz, and the Frechet distance of two of them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from movq_core.errors import MovqError


class StatisticsError(MovqError):
    """Statistics that cannot be read, made or compared."""


@dataclass(frozen=True)
class FeatureStatistics:
    """`mean` (D,) and `covariance` (D, D) in float64 of `count` images; `network` says whose features.

    Files of others, pytorch-fid's among them, tell neither `count` nor `network`: then they are None.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None
    network: str | None = None

    @classmethod
    def of(cls, features: Tensor, network: str) -> FeatureStatistics:
        """Of features (N, D), with N - 1 in the covariance; raises StatisticsError for less than two."""
        if len(features) < 2:
            raise StatisticsError(f"a covariance needs two images at least, not {len(features)}")
        rows = features.double()
        return cls(rows.mean(0), torch.atleast_2d(rows.t().cov()), len(rows), network)

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Of an .npz with `mu` and `sigma`, as pytorch-fid writes it; raises StatisticsError."""
        try:
            with np.load(path, allow_pickle=False) as data:
                mean, covariance = (
                    torch.from_numpy(data[name].astype(np.float64)) for name in ("mu", "sigma")
                )
                count = int(data["n"]) if "n" in data else None
                network = str(data["network"]) if "network" in data else None
        except FileNotFoundError as error:
            raise StatisticsError(f"{path} is missing: it should hold a reference's mu and sigma") from error
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise StatisticsError(f"{path}: not an .npz of mu and sigma: {error}") from error
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise StatisticsError(
                f"{path}: mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)} do not fit"
            )
        return cls(mean, covariance, count, network)

    def save(self, path: Path) -> None:
        """Write `mu` and `sigma`, which pytorch-fid reads too; `n` and `network` where they are known."""
        arrays = {"mu": self.mean.numpy(), "sigma": self.covariance.numpy()}
        if self.count is not None:
            arrays["n"] = np.array(self.count)
        if self.network is not None:
            arrays["network"] = np.array(self.network)
        with path.open("wb") as file:  # np.savez would add .npz to a name without it
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes ** for allow_pickle


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Squared Frechet distance of two Gaussians (Heusel et al. 2017): |m - n|^2 + tr(S + T - 2 (S T)^1/2).

    tr (S T)^1/2 is the sum of the singular values of S^1/2 T^1/2: real, and defined where a covariance is
    singular, as it is of fewer images than features. Raises StatisticsError for features of two networks.
    """
    if a.mean.shape != b.mean.shape:
        raise StatisticsError(f"{len(a.mean)} features and {len(b.mean)} cannot be compared")
    if a.network and b.network and a.network != b.network:
        raise StatisticsError(f"features of {a.network!r} and of {b.network!r} cannot be compared")
    shared = torch.linalg.svdvals(_root(a.covariance) @ _root(b.covariance)).sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2.0 * shared
    return max(0.0, float(distance))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root; eigenvalues that are rounding alone count as zero."""
    values, vectors = torch.linalg.eigh((covariance + covariance.t()) / 2.0)
    noise = values[-1] * len(values) * torch.finfo(values.dtype).eps
    roots = torch.where(values > noise, values, 0.0).sqrt()
    return (vectors * roots) @ vectors.t()
