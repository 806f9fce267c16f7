"""CodebookEMA: k-means, moving averages, revival."""

import math

import pytest
import torch

from movq_core.models.quantizer import MultichannelQuantizer
from movq_core.training.codebook import CodebookEMA, usage_entropy
from movq_core.training.distributed import Ranks


def clusters(count=400, seed=0):
    """Points around four corners, in two dimensions."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
    return corners.repeat(count // 4, 1) + 0.1 * torch.randn(count, 2, generator=generator), corners


def as_z(vectors):
    """(N, 2) as z (1, 2, N, 1)."""
    return vectors.t().reshape(1, 2, -1, 1)


def test_k_means_starts_where_the_vectors_are():
    torch.manual_seed(0)
    vectors, _ = clusters()
    quantizer = MultichannelQuantizer(1, 16, 2)
    codebook = CodebookEMA(quantizer)
    codebook.start(vectors)
    error = (quantizer.decode(quantizer.encode(as_z(vectors))) - as_z(vectors)).pow(2).mean()
    assert error < 0.01
    assert codebook.usage.sum() == 400


def test_codes_move_to_the_mean_of_what_they_stand_for():
    vectors, corners = clusters()
    quantizer = MultichannelQuantizer(1, 4, 2)
    codebook = CodebookEMA(quantizer, decay=0.5)
    quantizer.codebook.data = corners + 1.0
    codebook.usage += 100.0
    codebook.sums = quantizer.codebook.data * 100.0
    for _ in range(20):
        assert codebook.update(as_z(vectors), quantizer.encode(as_z(vectors))).revived == 0
    torch.testing.assert_close(quantizer.codebook.data, corners, atol=0.05, rtol=0)


def test_a_dead_code_is_moved_onto_a_vector_that_is_there():
    torch.manual_seed(0)
    vectors, corners = clusters()
    quantizer = MultichannelQuantizer(1, 5, 2)
    codebook = CodebookEMA(quantizer)
    quantizer.codebook.data = torch.cat([corners, torch.tensor([[500.0, 500.0]])])
    codebook.usage += 100.0
    codebook.usage[4] = 0.1
    codebook.sums = quantizer.codebook.data * codebook.usage[:, None]
    assert codebook.update(as_z(vectors), quantizer.encode(as_z(vectors))).revived == 1
    assert torch.cdist(quantizer.codebook.data[4:], vectors).min() == 0


def test_the_optimiser_leaves_the_codebook_alone():
    quantizer = MultichannelQuantizer(1, 4, 2)
    CodebookEMA(quantizer)
    assert not quantizer.codebook.requires_grad


def test_usage_entropy_is_log_k_when_all_codes_are_used_and_falls_to_zero():
    vectors, corners = clusters()
    quantizer = MultichannelQuantizer(1, 4, 2)
    quantizer.codebook.data = corners
    spread = usage_entropy(as_z(vectors), quantizer, 1.0, Ranks())
    assert spread.item() == pytest.approx(math.log(4), abs=1e-3)
    one = usage_entropy(as_z(vectors[::4]), quantizer, 1.0, Ranks())
    assert one.item() == pytest.approx(0.0, abs=1e-3)


def test_usage_entropy_pushes_vectors_to_the_codes_that_are_not_used():
    quantizer = MultichannelQuantizer(1, 2, 2)
    quantizer.codebook.data = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    z = as_z(torch.zeros(8, 2)).requires_grad_()
    usage_entropy(z, quantizer, 1.0, Ranks()).backward()
    assert (z.grad[0, 0] > 0).all()
    assert (z.grad[0, 1] == 0).all()


def test_figures_of_usage():
    vectors, corners = clusters()
    quantizer = MultichannelQuantizer(1, 8, 2)
    quantizer.codebook.data = torch.cat([corners, corners + 100.0])
    usage = CodebookEMA(quantizer, learns="nothing").update(as_z(vectors), quantizer.encode(as_z(vectors)))
    assert usage.used == 0.5
    assert usage.perplexity == pytest.approx(4.0)


def test_a_dead_code_is_revived_beside_an_optimiser_too():
    vectors, corners = clusters()
    quantizer = MultichannelQuantizer(1, 5, 2)
    codebook = CodebookEMA(quantizer, learns="gradient")
    quantizer.codebook.data = torch.cat([corners + 0.5, torch.tensor([[500.0, 500.0]])])
    codebook.adopt(400)
    codebook.usage[4] = 0.1
    assert codebook.update(as_z(vectors), quantizer.encode(as_z(vectors))).revived == 1
    assert quantizer.codebook.requires_grad
    assert torch.equal(quantizer.codebook.data[:4], corners + 0.5)
    assert torch.cdist(quantizer.codebook.data[4:], vectors).min() == 0
