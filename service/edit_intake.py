"""EditIntake: image, mask, boxes and margins of an edit become one image and one mask (decision 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from movq_core.errors import ImageTooLarge, InvalidRequest
from service.schemas import Edges, EditFields
from service.uploads import CleanImage, as_png, opened, plain_rgb

WHITE_FROM = 128  # a mask without alpha: from here on, a pixel is made anew
OPAQUE_FROM = 128  # a mask with alpha: from here on, a pixel is kept

Mask = NDArray[np.bool_]  # (height, width); True where the image is made anew


@dataclass(frozen=True)
class EditImages:
    """What the worker sees; `mask` is None where the whole image may change."""

    image: CleanImage
    mask: CleanImage | None


def edit_images(image: bytes, mask: bytes | None, fields: EditFields, max_pixels: int) -> EditImages:
    """Decode, join and expand; raises InvalidRequest and its kinds, in sentences.

    Mask and boxes are of the image before it is expanded.
    """
    picture = plain_rgb(image, max_pixels)
    anew = _anew(picture.size, mask, fields.box, max_pixels)
    if fields.expand is not None:
        check_expanded(picture.size, fields.expand, max_pixels)
        picture, anew = expanded(picture, anew, fields.expand)
    if anew is None:
        if fields.strength == 1.0:
            raise InvalidRequest(
                "Nothing says what to edit: send a mask, a box, expand, or a strength below 1 for a "
                "variation of the whole image."
            )
        return EditImages(as_png(picture), None)
    if not anew.any():
        raise InvalidRequest(
            "The mask is empty: nothing would change. Transparent pixels are made anew, or, in a mask "
            "without alpha, white ones; boxes must lie in the image."
        )
    return EditImages(as_png(picture), as_png(Image.fromarray(np.where(anew, 255, 0).astype(np.uint8))))


def _anew(size: tuple[int, int], mask: bytes | None, boxes: Sequence[Edges], max_pixels: int) -> Mask | None:
    """Where mask or boxes say to make anew; None when there is neither. `size`: width, height."""
    if mask is None and not boxes:
        return None
    width, height = size
    anew = np.zeros((height, width), dtype=np.bool_) if mask is None else _mask_of(mask, size, max_pixels)
    for left, top, right, bottom in boxes:
        anew[top:bottom, left:right] = True
    return anew


def _mask_of(data: bytes, size: tuple[int, int], max_pixels: int) -> Mask:
    """By alpha where there is any to speak of, else by brightness; raises InvalidRequest for another size."""
    with opened(data, max_pixels) as image:
        upright = ImageOps.exif_transpose(image)
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


def check_expanded(size: tuple[int, int], expand: Edges, max_pixels: int) -> None:
    """Raises ImageTooLarge when the image would have too many pixels."""
    left, top, right, bottom = expand
    width, height = size[0] + left + right, size[1] + top + bottom
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"Expanded, the image would have {width} x {height} pixels; at most {max_pixels:,} in all may be."
        )


def expanded(image: Image.Image, anew: Mask | None, expand: Edges) -> tuple[Image.Image, Mask]:
    """The image with its edges repeated outwards, and a mask that has the new margin in it."""
    left, top, right, bottom = expand
    margins = ((top, bottom), (left, right))
    pixels = np.pad(np.asarray(image), (*margins, (0, 0)), mode="edge")
    inside = np.zeros((image.height, image.width), dtype=np.bool_) if anew is None else anew
    return Image.fromarray(pixels), np.pad(inside, margins, constant_values=True)
