"""Figures of a tokenizer and of a prior on held-out images, under their true names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ
from movq_core.training.encode_dataset import CodeSet


@dataclass(frozen=True)
class Reconstruction:
    """Means over images, on 8-bit RGB: PSNR of each image in dB, SSIM, and the share of the codebook used."""

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
    psnr = peak_signal_noise_ratio(ours, real, data_range=255.0, dim=(1, 2, 3), reduction="elementwise_mean")
    ssim = structural_similarity_index_measure(ours, real, data_range=255.0)
    assert isinstance(ssim, Tensor)
    used = len(codes.unique()) / movq.config.codebook_size
    return Reconstruction(float(psnr), float(ssim), used)


@torch.inference_mode()
def masked_nll(prior: MaskGIT, held_out: CodeSet, rounds: int = 8, seed: int = 0) -> float:
    """Nats a masked code, class given: the mean over `rounds` of masks at ratios from 1/16 to 15/16.

    Each image counts once a round and each round has one ratio, the same for all priors of one grid.
    """
    codes = torch.from_numpy(held_out.codes[:, 0].astype(np.int64))
    classes = torch.from_numpy(held_out.classes)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for index in range(rounds):
        noise = torch.rand(codes.shape, generator=generator)
        masked = noise < (index + 0.5) / rounds
        logits = prior(torch.where(masked, prior.mask_code, codes), classes)
        log_p = logits.log_softmax(-1).gather(-1, codes[..., None]).squeeze(-1)
        losses.append(-log_p[masked].mean())
    return float(torch.stack(losses).mean())


def unigram_nll(train: CodeSet, held_out: CodeSet, codebook_size: int) -> float:
    """Nats a code under the training frequencies of each (class, channel), one added to each count."""
    losses = []
    channels = train.codes.shape[2]
    for class_id in np.unique(held_out.classes):
        seen = train.codes[train.classes == class_id]
        asked = held_out.codes[held_out.classes == class_id]
        for channel in range(channels):
            counts = np.bincount(seen[:, :, channel].ravel(), minlength=codebook_size) + 1.0
            losses.append(-np.log(counts / counts.sum())[asked[:, :, channel].ravel()])
    return float(np.concatenate(losses).mean())
