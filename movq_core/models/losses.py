"""Losses of stage 1 (VQGAN's, Esser et al. 2021) and of stage 2 (MaskGIT's, Chang et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def gradient_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical differences: keeps edges sharp without a critic.

    a, b (B, 3, h, w) -> scalar.
    """
    difference = a - b
    horizontal = difference.diff(dim=-1).abs().mean()
    vertical = difference.diff(dim=-2).abs().mean()
    return horizontal + vertical


def reconstruction_loss(a: Tensor, b: Tensor, l1: float, l2: float, gradient: float) -> Tensor:
    """Weighted L1 + L2 + gradient difference of a, b (B, 3, h, w) -> scalar."""
    return l1 * F.l1_loss(a, b) + l2 * F.mse_loss(a, b) + gradient * gradient_difference(a, b)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's hinge loss of its logits on real and on reconstructed pixels -> scalar."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the decoder is paid for logits on its pixels -> scalar."""
    return -fake.mean()


def adaptive_weight(
    reconstruction: Tensor,
    adversarial: Tensor,
    last_layer: Tensor,
    average: Callable[[Tensor], Tensor] = torch.detach,
) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer, at most 1e4: VQGAN's lambda.

    `average` takes a gradient's mean over the ranks: each knows its own part of the batch only.
    """
    (wanted,) = map(average, torch.autograd.grad(reconstruction, last_layer, retain_graph=True))
    (given,) = map(average, torch.autograd.grad(adversarial, last_layer, retain_graph=True))
    return (wanted.norm() / (given.norm() + 1e-4)).clamp(0.0, 1e4).detach()


def masked_code_loss(
    logits: Tensor, codes: Tensor, masked: Tensor, label_smoothing: float, visible_weight: float
) -> Tensor:
    """Cross-entropy of the masked codes, plus a small weight on the visible ones.

    logits (B, C, H, W, K), codes and masked (B, C, H, W) -> scalar, a weighted mean a code.
    """
    losses = F.cross_entropy(
        logits.flatten(0, -2), codes.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    weights = torch.where(masked.flatten(), 1.0, visible_weight)
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)
