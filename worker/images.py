"""Bytes to pixels and back, with Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from movq_core.edits import Mask
from movq_core.errors import InvalidImage
from movq_core.protocol import ImageFormat
from movq_core.tiles import Pixels

# Every choice that Pillow could otherwise make by itself is made here: same pixels, same bytes.
_SAVE_OPTIONS: dict[ImageFormat, dict[str, object]] = {
    # Half the time of 6, zlib's own choice, for a hundredth more bytes.
    ImageFormat.PNG: {"optimize": False, "compress_level": 4},
    ImageFormat.WEBP: {"lossless": False, "quality": 90, "method": 4},
    ImageFormat.JPEG: {"quality": 92, "subsampling": 0, "optimize": False, "progressive": False},
}
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


def encode_image(pixels: Pixels, image_format: ImageFormat) -> bytes:
    """The bytes of an image file; equal pixels give equal bytes."""
    return _encoded(pixels, image_format, _SAVE_OPTIONS[image_format])


def encode_preview(pixels: Pixels) -> bytes:
    """A small WebP of RGBA pixels (h, w, 4)."""
    return _encoded(pixels, ImageFormat.WEBP, _PREVIEW_OPTIONS)


def _encoded(pixels: Pixels, image_format: ImageFormat, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format.value, **options)
    return buffer.getvalue()
