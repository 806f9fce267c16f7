"""EditArea: mask, boxes and margins of an edit become one image and one mask (decision 17); Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageOps

from movq_core.edits import Mask
from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.tiles import Pixels

WHITE_FROM = 128  # a mask without alpha: from here on, a pixel is made anew
OPAQUE_FROM = 128  # a mask with alpha: from here on, a pixel is kept

Edges = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class EditArea:
    """The `image` (h, w, 3) to edit, and its `mask` (h, w); None where the whole image may change."""

    image: Pixels
    mask: Mask | None

    @classmethod
    def of(
        cls,
        image: Pixels,
        mask: Mask | None,
        boxes: Sequence[Edges],
        margins: Edges | None,
        *,
        strength: float,
        max_pixels: int,
    ) -> Self:
        """Join mask and boxes, which are of the image before it is expanded, and expand it by `margins`.

        Raises InvalidRequest when nothing would change, and ImageTooLarge beyond `max_pixels`.
        """
        if boxes:
            mask = _with_boxes(mask, boxes, image.shape[0], image.shape[1])
        if margins is not None:
            _check_expanded(image, margins, max_pixels)
            image, mask = _expanded(image, mask, margins)
        if mask is None and strength == 1.0:
            raise InvalidRequest(
                "Nothing says what to edit: send a mask, a box, expand, or a strength below 1 for a "
                "variation of the whole image."
            )
        if mask is not None and not mask.any():
            raise InvalidRequest(
                "The mask is empty: nothing would change. Transparent pixels are made anew, or, in a mask "
                "without alpha, white ones; boxes must lie in the image."
            )
        return cls(image, mask)


def mask_of(picture: Image.Image, size: tuple[int, int]) -> Mask:
    """By alpha where there is any to speak of, else by brightness.

    Raises InvalidRequest unless the picture is as large as the image, of `size` (width, height).
    """
    upright = ImageOps.exif_transpose(picture)
    if upright.size != size:
        raise InvalidRequest(
            f"The mask has {upright.width} x {upright.height} pixels, the image {size[0]} x {size[1]}; "
            "they must have the same."
        )
    if upright.has_transparency_data:
        alpha = np.asarray(upright.convert("RGBA").getchannel("A"))
        if (alpha < OPAQUE_FROM).any():
            return np.array(alpha < OPAQUE_FROM)
    return np.array(np.asarray(upright.convert("L")) >= WHITE_FROM)


def edges_of(text: str) -> Edges:
    """Raises ValueError unless `text` is "left,top,right,bottom"."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isascii() and part.strip().isdecimal() for part in parts):
        raise ValueError("give four numbers of pixels: left,top,right,bottom")
    left, top, right, bottom = (int(part) for part in parts)
    return left, top, right, bottom


def checked_box(edges: Edges) -> Edges:
    """Raises ValueError for a box without a pixel."""
    left, top, right, bottom = edges
    if left >= right or top >= bottom:
        raise ValueError("left must be less than right, and top less than bottom")
    return edges


def checked_margins(edges: Edges) -> Edges:
    """Raises ValueError for margins without a pixel."""
    if not any(edges):
        raise ValueError("expand by a pixel at least, on one side")
    return edges


def _with_boxes(mask: Mask | None, boxes: Sequence[Edges], height: int, width: int) -> Mask:
    """A mask that has the boxes in it, cut at the image's edge."""
    joined = np.zeros((height, width), np.bool_) if mask is None else mask.copy()
    for left, top, right, bottom in boxes:
        joined[top:bottom, left:right] = True
    return joined


def _check_expanded(image: Pixels, margins: Edges, max_pixels: int) -> None:
    """Raises ImageTooLarge when the image would have too many pixels."""
    left, top, right, bottom = margins
    width, height = image.shape[1] + left + right, image.shape[0] + top + bottom
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"Expanded, the image would have {width} x {height} pixels; at most {max_pixels:,} in all may be."
        )


def _expanded(image: Pixels, mask: Mask | None, margins: Edges) -> tuple[Pixels, Mask]:
    """The image with its edges repeated outwards, and a mask that has the new margin in it."""
    left, top, right, bottom = margins
    around = ((top, bottom), (left, right))
    inside = np.zeros(image.shape[:2], np.bool_) if mask is None else mask
    return np.pad(image, (*around, (0, 0)), mode="edge"), np.pad(inside, around, constant_values=True)
