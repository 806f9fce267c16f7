"""A worker's own ways with image files: what the service stored, and previews; Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from movq_core.edits import Mask
from movq_core.errors import InvalidImage
from movq_core.protocol import ImageFormat
from movq_core.tiles import Pixels

# It is looked at for a moment. Where it is transparent its colours do not matter.
_PREVIEW_OPTIONS: dict[str, object] = {"lossless": False, "quality": 80, "method": 4, "exact": False}


def decode_image(data: bytes) -> Pixels:
    """The RGB pixels (h, w, 3) of an image file; raises InvalidImage."""
    return _decoded(data, "RGB")


def decode_mask(data: bytes) -> Mask:
    """Where an image file (h, w) is not black; raises InvalidImage."""
    return _decoded(data, "L") > 0


def _decoded(data: bytes, mode: str) -> Pixels:
    """The service has checked, turned upright and re-encoded every upload as PNG: what fails was damaged."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert(mode), dtype=np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImage(f"the stored image cannot be read: {error}") from error


def encode_preview(pixels: Pixels) -> bytes:
    """A small WebP of RGBA pixels (h, w, 4)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=ImageFormat.WEBP.value, **_PREVIEW_OPTIONS)
    return buffer.getvalue()
