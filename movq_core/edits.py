"""Edits: which codes of an image are made anew; torch-free.

What is not made anew never changes: the prior is given those codes as known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from movq_core.tiles import Codes

Mask = NDArray[np.bool_]  # True where the image is made anew


def code_mask(pixel_mask: Mask, factor: int) -> Mask:
    """Cells (ceil(h / f), ceil(w / f)) of which any pixel is in `pixel_mask` (h, w)."""
    height, width = pixel_mask.shape
    whole = np.pad(pixel_mask, ((0, -height % factor), (0, -width % factor)))
    rows, columns = (side // factor for side in whole.shape)
    cells: Mask = whole.reshape(rows, factor, columns, factor).max(axis=(1, 3))
    return cells


def remasked(codes: Codes, masked: Mask, strength: float, seed: int, mask_code: int) -> Codes:
    """`codes` (C, H, W) with `mask_code` for a share `strength` of those in cells `masked` (H, W).

    The share is of all their channels, rounded, and at least one code; which ones, the seed decides. With
    the same seed and mask, a greater strength masks the same codes and more.
    """
    candidates = np.flatnonzero(np.broadcast_to(masked, codes.shape))
    count = max(1, round(strength * len(candidates)))
    chosen = candidates[np.argsort(_words(seed, codes.size)[candidates], kind="stable")[:count]]
    result = codes.copy()
    result.flat[chosen] = mask_code
    return result


def _words(seed: int, count: int) -> NDArray[np.uint64]:
    """A word an entry, of (seed, entry) alone: Philox 4x64-10 as it is, no distribution of NumPy's.

    NumPy promises a bit generator's words for good, and of its distributions nothing (NEP 19).
    """
    words: NDArray[np.uint64] = np.random.Philox(key=seed).random_raw(count)
    return words
