"""Figures of a tokenizer and of a prior on held-out images, under their true names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from movq_core.models.movq import MoVQ


@dataclass(frozen=True)
class Reconstruction:
    """Means over images, on 8-bit RGB: PSNR in dB (of each image, then averaged), SSIM, share of codebook used."""

    psnr_db: float
    ssim: float
    codebook_used: float


def quantised_to_8_bits(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] to what a PNG would hold, as float in [0, 255]."""
    return pixels.clamp(-1.0, 1.0).add(1.0).mul(127.5).round()


@torch.inference_mode()
def reconstruct(movq: MoVQ, pixels: Tensor, batch_size: int = 32) -> tuple[Tensor, Tensor]:
    """Reconstructions (N, 3, h, w) in [-1, 1] and codes (N, C, H, W) of `pixels`."""
    codes = torch.cat([movq.encode_codes(part) for part in pixels.split(batch_size)])
    return torch.cat([movq.decode_codes(part) for part in codes.split(batch_size)]), codes


def evaluate_reconstruction(movq: MoVQ, pixels: Tensor) -> Reconstruction:
    """PSNR, SSIM (Wang et al. 2004, 11x11 Gaussian) and code usage over `pixels` (N, 3, h, w) in [-1, 1]."""
    reconstructed, codes = reconstruct(movq, pixels)
    ours, real = quantised_to_8_bits(reconstructed), quantised_to_8_bits(pixels)
    psnr = peak_signal_noise_ratio(
        ours, real, data_range=255.0, dim=(1, 2, 3), reduction="elementwise_mean"
    )
    ssim = structural_similarity_index_measure(ours, real, data_range=255.0)
    assert isinstance(ssim, Tensor)
    used = len(codes.unique()) / movq.config.codebook_size
    return Reconstruction(float(psnr), float(ssim), used)
