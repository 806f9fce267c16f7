"""Figures of a tokenizer and of a prior on held-out images, under their true names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from movq_core.models.autoregressive import Autoregressive
from movq_core.models.maskgit import MaskGIT
from movq_core.models.movq import MoVQ
from movq_core.training.encode_dataset import CodeSet

BATCH_SIZE = 32


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
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for index in range(rounds):
        noise = torch.rand((len(held_out.codes), *held_out.codes.shape[2:]), generator=generator)
        masked = noise < (index + 0.5) / rounds
        log_p = [
            _log_p(prior(torch.where(hidden, prior.mask_code, codes), classes), codes)[hidden]
            for codes, classes, hidden in _batches(held_out, masked, prior.place.device)
        ]
        losses.append(-torch.cat(log_p).mean())
    return float(torch.stack(losses).mean())


@torch.inference_mode()
def code_nll(prior: Autoregressive, held_out: CodeSet) -> float:
    """Nats a code, given its class and the codes before it: the mean over held-out images."""
    every = torch.ones((len(held_out.codes), *held_out.codes.shape[2:]), dtype=torch.bool)
    log_p = [
        _log_p(prior(codes, classes), codes).flatten()
        for codes, classes, _ in _batches(held_out, every, prior.place.device)
    ]
    return -float(torch.cat(log_p).mean())


def _log_p(logits: Tensor, codes: Tensor) -> Tensor:
    """Log-probabilities (B, C, H, W) of `codes` under logits (B, C, H, W, K)."""
    return logits.log_softmax(-1).gather(-1, codes[..., None]).squeeze(-1)


def _batches(held_out: CodeSet, masked: Tensor, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """The first version's codes, the classes and `masked`, some images at a time, on `device`."""
    codes = torch.from_numpy(held_out.codes[:, 0].astype(np.int64))
    parts = (t.split(BATCH_SIZE) for t in (codes, torch.from_numpy(held_out.classes), masked))
    return (tuple(t.to(device) for t in part) for part in zip(*parts, strict=True))


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
