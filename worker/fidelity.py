"""How a reconstruction compares with what went in; CPU work, off the engine's thread."""

from __future__ import annotations

import math

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from movq_core.protocol import Fidelity
from movq_core.tiles import Codes, Pixels

SSIM_WINDOW = 11  # pixels a side: a Gaussian of 1.5, Wang et al. 2004


def measure_fidelity(
    original: Pixels, reconstruction: Pixels, codes: Codes, bits_per_code: float
) -> Fidelity:
    """PSNR and SSIM on 8-bit RGB, and the size of the codes packed at `bits_per_code`."""
    height, width = original.shape[:2]
    codes_bytes = math.ceil(codes.size * bits_per_code / 8)
    return Fidelity(
        psnr_db=_psnr_db(original, reconstruction),
        ssim=_ssim(original, reconstruction) if min(height, width) >= SSIM_WINDOW else None,
        codes_bytes=codes_bytes,
        bits_per_pixel=8 * codes_bytes / (height * width),
    )


def _psnr_db(original: Pixels, reconstruction: Pixels) -> float | None:
    """None when the two are equal: the ratio is infinite, which JSON cannot say."""
    if np.array_equal(original, reconstruction):
        return None
    return float(peak_signal_noise_ratio(original, reconstruction, data_range=255))


def _ssim(original: Pixels, reconstruction: Pixels) -> float:
    """The mean over channels; a channel at a time in float32, so that 12 megapixels stay below half a GB."""
    channels = [
        structural_similarity(
            original[..., c].astype(np.float32),
            reconstruction[..., c].astype(np.float32),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for c in range(original.shape[2])
    ]
    return float(np.mean(channels))
