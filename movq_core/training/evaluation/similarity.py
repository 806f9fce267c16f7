"""How alike images and their copies are, pair by pair: PSNR, SSIM, MS-SSIM, and LPIPS where it is there."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from movq_core.training.evaluation.figures import Figure
from movq_core.training.evaluation.lpips import LPIPS

MS_SSIM_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003
SSIM_WINDOW = 11  # pixels
LPIPS_NEEDS = "needs VGG16's or AlexNet's weights: --lpips-weights, --weights-dir"


def ms_ssim_scales(side: int) -> int:
    """How many of the five scales, each half the one before, are as large as SSIM's window; may be 0.

    `side` is the image's shorter one, in pixels. The condition in the middle is torchmetrics' own.
    """
    fits = [
        scales
        for scales in range(1, len(MS_SSIM_BETAS) + 1)
        if side // max(1, scales - 1) ** 2 >= SSIM_WINDOW and side >> (scales - 1) >= SSIM_WINDOW
    ]
    return max(fits, default=0)


def ms_ssim(a: Tensor, b: Tensor, scales: int) -> Tensor:
    """MS-SSIM (B,) of a, b (B, 3, h, w), 0 to 255, on the first `scales`, their weights brought to sum 1."""
    betas = MS_SSIM_BETAS[:scales]
    measured = multiscale_structural_similarity_index_measure(
        a, b, data_range=255.0, betas=tuple(beta / sum(betas) for beta in betas), reduction="none"
    )
    return measured.reshape(-1)


class Similarity:
    """Collects each pair's figures; `smallest_side` is that of all the images that will come, in pixels."""

    def __init__(self, smallest_side: int, lpips: LPIPS | None = None) -> None:
        self._scales = ms_ssim_scales(smallest_side)
        self._lpips = lpips
        self._values: dict[str, list[Tensor]] = defaultdict(list)

    @torch.inference_mode()
    def add(self, copies: Tensor, images: Tensor) -> None:
        """Both (B, 3, h, w), whole numbers from 0 to 255."""
        psnr = peak_signal_noise_ratio(copies, images, data_range=255.0, dim=(1, 2, 3), reduction="none")
        self._values["PSNR"].append(psnr)
        if self._scales > 0:
            ssim = structural_similarity_index_measure(copies, images, data_range=255.0, reduction="none")
            assert isinstance(ssim, Tensor)
            self._values["SSIM"].append(ssim.reshape(-1))
        if self._scales > 1:
            self._values["MS-SSIM"].append(ms_ssim(copies, images, self._scales))
        if self._lpips is not None:
            self._values["LPIPS"].append(self._lpips(copies / 127.5 - 1.0, images / 127.5 - 1.0))

    def figures(self) -> list[Figure]:
        """Means over images."""
        return [self._psnr(), self._ssim(), self._ms_ssim(), self._of_lpips()]

    def _mean(self, name: str) -> float:
        return float(torch.cat(self._values[name]).double().mean())

    def _psnr(self) -> Figure:
        values = torch.cat(self._values["PSNR"])
        equal = int(values.isinf().sum())
        if equal:
            return Figure("PSNR", None, "dB", f"infinite: {equal} of {len(values)} pairs are equal")
        return Figure("PSNR", self._mean("PSNR"), "dB", "mean of each image's, 8-bit RGB")

    def _ssim(self) -> Figure:
        if self._scales < 1:
            return Figure("SSIM", None, "", f"its window needs {SSIM_WINDOW} pixels a side")
        return Figure("SSIM", self._mean("SSIM"), "", "Gaussian window of 11, RGB")

    def _ms_ssim(self) -> Figure:
        if self._scales < 2:
            return Figure("MS-SSIM", None, "", f"two scales need {2 * SSIM_WINDOW} pixels a side")
        if self._scales < len(MS_SSIM_BETAS):
            name = f"MS-SSIM of {self._scales} scales"
            return Figure(
                name, self._mean("MS-SSIM"), "", "images too small for all 5: not the published figure"
            )
        return Figure("MS-SSIM", self._mean("MS-SSIM"), "", "5 scales")

    def _of_lpips(self) -> Figure:
        if self._lpips is None:
            return Figure("LPIPS", None, "", LPIPS_NEEDS)
        return Figure(f"LPIPS ({self._lpips.name})", self._mean("LPIPS"), "", "v0.1, mean over images")
