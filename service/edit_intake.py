"""EditIntake: the files of an edit's form become an image and a mask for the worker (decision 17)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from movq_core.edit_area import EditArea, mask_of
from movq_core.edits import Mask
from service.schemas import EditFields
from service.uploads import CleanImage, as_png, decoded_rgb, opened


@dataclass(frozen=True)
class EditImages:
    """What the worker sees; `mask` is None where the whole image may change."""

    image: CleanImage
    mask: CleanImage | None


def edit_images(image: bytes, mask: bytes | None, fields: EditFields, max_pixels: int) -> EditImages:
    """Decode, join and expand; raises InvalidRequest and its kinds, in sentences."""
    picture = decoded_rgb(image, max_pixels)
    masked = None if mask is None else _decoded_mask(mask, picture.size, max_pixels)
    area = EditArea.of(
        np.asarray(picture),
        masked,
        fields.box,
        fields.expand,
        strength=fields.strength,
        max_pixels=max_pixels,
    )
    return EditImages(
        as_png(Image.fromarray(area.image)), None if area.mask is None else _mask_as_png(area.mask)
    )


def _decoded_mask(data: bytes, size: tuple[int, int], max_pixels: int) -> Mask:
    with opened(data, max_pixels) as picture:
        return mask_of(picture, size)


def _mask_as_png(mask: Mask) -> CleanImage:
    """White where the image is made anew."""
    return as_png(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)))
