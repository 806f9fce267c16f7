"""Bytes and pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from movq_core.errors import InvalidImage
from movq_core.protocol import ImageFormat
from worker.images import decode_image, encode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (33, 57, 3), dtype=np.uint8)


def test_png_is_lossless() -> None:
    assert np.array_equal(decode_image(encode_image(PIXELS, ImageFormat.PNG)), PIXELS)


@pytest.mark.parametrize("image_format", ImageFormat)
def test_equal_pixels_give_equal_bytes_of_the_asked_format(image_format: ImageFormat) -> None:
    data = encode_image(PIXELS, image_format)
    assert encode_image(PIXELS.copy(), image_format) == data
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == image_format.value.upper()
        assert image.size == (57, 33)


@pytest.mark.parametrize(
    "damaged", [b"", b"no image", encode_image(PIXELS, ImageFormat.PNG)[:200]], ids=["none", "text", "cut"]
)
def test_damaged_bytes_are_an_invalid_image(damaged: bytes) -> None:
    with pytest.raises(InvalidImage, match="cannot be read"):
        decode_image(damaged)
