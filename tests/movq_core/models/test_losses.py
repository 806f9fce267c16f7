"""Losses against values worked out by hand, and the discriminator's shape."""

import math

import pytest
import torch

from movq_core.models.discriminator import PatchDiscriminator
from movq_core.models.losses import (
    adaptive_weight,
    gradient_difference,
    hinge_discriminator_loss,
    hinge_generator_loss,
    masked_code_loss,
    reconstruction_loss,
)


def test_gradient_difference_ignores_an_offset_and_sees_an_edge():
    image = torch.zeros(1, 3, 4, 4)
    assert gradient_difference(image, image + 0.5) == 0
    edge = image.clone()
    edge[..., 2:] = 1.0  # one vertical edge: 4 of the 12 horizontal differences are 1
    assert gradient_difference(image, edge).item() == pytest.approx(1 / 3)


def test_reconstruction_loss_weighs_its_parts():
    a, b = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.5)
    assert reconstruction_loss(a, b, l1=2.0, l2=4.0, gradient=9.0).item() == pytest.approx(2.0)


def test_hinge_stops_paying_beyond_the_margin():
    assert hinge_discriminator_loss(torch.tensor([2.0]), torch.tensor([-3.0])) == 0
    assert hinge_discriminator_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 1
    assert hinge_generator_loss(torch.tensor([0.25])) == -0.25


def test_adaptive_weight_is_the_ratio_of_gradients():
    weight = torch.tensor([1.0], requires_grad=True)
    ratio = adaptive_weight((3 * weight).sum(), (2 * weight).sum(), weight)
    assert ratio.item() == pytest.approx(1.5, abs=1e-3)
    assert not ratio.requires_grad


def test_only_masked_codes_count_when_visible_weight_is_zero():
    logits = torch.zeros(1, 1, 1, 2, 4)
    logits[0, 0, 0, 0, 1] = 100.0  # certain of code 1 at the first position
    codes = torch.tensor([[[[1, 3]]]])
    first = torch.tensor([[[[True, False]]]])
    assert masked_code_loss(logits, codes, first, 0.0, 0.0).item() == pytest.approx(0.0, abs=1e-6)
    assert masked_code_loss(logits, codes, ~first, 0.0, 0.0).item() == pytest.approx(math.log(4))
    both = masked_code_loss(logits, codes, ~first, 0.0, 1.0)
    assert both.item() == pytest.approx(math.log(4) / 2)


def test_the_critic_judges_patches():
    logits = PatchDiscriminator(base_channels=8)(torch.zeros(2, 3, 64, 64))
    assert logits.shape == (2, 1, 6, 6)
