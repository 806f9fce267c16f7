"""Distances of distributions, on sets whose distance is known."""

import math

import numpy as np
import pytest
import torch

from movq_core.training.evaluation import distributions
from movq_core.training.evaluation.distributions import (
    inception_score,
    kernel_distance,
    kid,
    precision_recall,
)
from movq_core.training.evaluation.statistics import FeatureStatistics, StatisticsError, frechet_distance


def normal(count, width=4, mean=0.0, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + mean


def gaussian(mean, variances):
    return FeatureStatistics(torch.tensor(mean).double(), torch.diag(torch.tensor(variances)).double())


def test_the_frechet_distance_of_gaussians_with_diagonal_covariances():
    a, b = gaussian([0.0, 0.0], [1.0, 4.0]), gaussian([3.0, 4.0], [9.0, 4.0])
    assert frechet_distance(a, b) == pytest.approx(25.0 + (1.0 - 3.0) ** 2)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-12)


def test_the_frechet_distance_of_covariances_that_do_not_commute():
    """In two dimensions tr (S T)^1/2 = sqrt(tr ST + 2 sqrt(det ST))."""
    rng = np.random.default_rng(0)
    s, t = (m @ m.T for m in rng.normal(size=(2, 2, 2)))
    shared = math.sqrt(np.trace(s @ t) + 2.0 * math.sqrt(np.linalg.det(s @ t)))
    zero = torch.zeros(2).double()
    a, b = (FeatureStatistics(zero, torch.from_numpy(m)) for m in (s, t))
    assert frechet_distance(a, b) == pytest.approx(np.trace(s) + np.trace(t) - 2.0 * shared)


def test_the_frechet_distance_with_fewer_images_than_features():
    """A singular covariance: the distance to itself stays zero, and a shift is all of the distance."""
    few = normal(10, 200)
    a, b = (FeatureStatistics.of(x, "n") for x in (few, few + 0.5))
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(200 * 0.25)


def test_statistics_come_back_and_those_of_others_are_read(tmp_path):
    ours = FeatureStatistics.of(normal(50), "net")
    ours.save(tmp_path / "ours.npz")
    read = FeatureStatistics.load(tmp_path / "ours.npz")
    assert (read.count, read.network) == (50, "net")
    assert frechet_distance(read, ours) == pytest.approx(0.0, abs=1e-12)
    np.savez(tmp_path / "theirs.npz", mu=ours.mean.numpy(), sigma=ours.covariance.numpy())
    theirs = FeatureStatistics.load(tmp_path / "theirs.npz")
    assert (theirs.count, theirs.network) == (None, None)
    assert torch.equal(theirs.covariance, ours.covariance)


def test_statistics_that_do_not_compare_are_refused(tmp_path):
    ours = FeatureStatistics.of(normal(50), "one")
    with pytest.raises(StatisticsError, match="'one' and of 'two'"):
        frechet_distance(ours, FeatureStatistics.of(normal(50), "two"))
    with pytest.raises(StatisticsError, match="4 features and 5"):
        frechet_distance(ours, FeatureStatistics.of(normal(50, 5), "one"))
    with pytest.raises(StatisticsError, match="two images"):
        FeatureStatistics.of(normal(1), "one")
    with pytest.raises(StatisticsError, match="missing"):
        FeatureStatistics.load(tmp_path / "no.npz")
    np.savez(tmp_path / "mu.npz", mu=np.zeros(3))
    np.savez(tmp_path / "shapes.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    np.savez(tmp_path / "objects.npz", mu=np.array([{}]), sigma=np.zeros((1, 1)))
    (tmp_path / "text.npz").write_text("text")
    for name in ("mu", "shapes", "objects", "text"):
        with pytest.raises(StatisticsError, match=name):
            FeatureStatistics.load(tmp_path / f"{name}.npz")


def test_kid_is_about_zero_within_a_distribution_and_grows_with_a_shift():
    a, b = normal(500), normal(500, seed=1)
    assert abs(kernel_distance(a, b)) < 0.02
    near, far = (kernel_distance(a, b + shift) for shift in (0.3, 1.0))
    assert 0.02 < near < far


def test_kid_is_the_definition():
    a, b = normal(5, 3).double(), normal(7, 3, seed=1).double()

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    expected = sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(expected)


def test_kid_of_large_sets_is_a_mean_over_subsets(monkeypatch):
    monkeypatch.setattr(distributions, "KID_SUBSET_SIZE", 100)
    a, b = normal(300), normal(300, mean=0.5, seed=1)
    measured = kid(a, b)
    assert measured == kid(a, b)
    assert measured.deviation > 0.0
    assert measured.mean == pytest.approx(kernel_distance(a, b), rel=0.3)
    assert kid(a[:50], b).deviation is None


def test_precision_and_recall_of_known_sets():
    """Real images in two clusters; the generator knows one of them, and half of what it makes is nonsense."""
    left, right = normal(40), normal(40, mean=100.0, seed=1)
    generated = torch.cat([left + 0.001, normal(40, mean=-500.0, seed=2)])
    measured = precision_recall(torch.cat([left, right]), generated)
    assert measured.precision == 0.5
    assert measured.recall == 0.5
    assert precision_recall(left, left) == (1.0, 1.0)
    assert precision_recall(left, right) == (0.0, 0.0)


def test_precision_and_recall_do_not_depend_on_how_many_are_measured_at_once(monkeypatch):
    real, generated = normal(60), normal(50, mean=0.7, seed=1)
    whole = precision_recall(real, generated)
    monkeypatch.setattr(distributions, "DISTANCES_AT_ONCE", 128)
    assert precision_recall(real, generated) == whole
    with pytest.raises(ValueError, match="3 neighbours"):
        precision_recall(real[:3], generated)


def test_the_inception_score_is_one_of_equal_predictions_and_the_classes_of_sure_ones():
    assert inception_score(torch.zeros(100, 10)).mean == pytest.approx(1.0)
    sure = 100.0 * torch.eye(10).repeat(10, 1)
    assert inception_score(sure).mean == pytest.approx(10.0)
    many = inception_score(100.0 * torch.eye(10).repeat(500, 1))
    assert many.mean == pytest.approx(10.0, rel=0.01)
    assert many.deviation < 0.05
