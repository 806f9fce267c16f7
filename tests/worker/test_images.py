"""Bytes and pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from movq_core.errors import InvalidImage
from movq_core.picture import encode_image
from movq_core.protocol import ImageFormat
from worker.images import decode_image, decode_mask, encode_preview

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


def test_a_mask_is_all_that_is_not_black() -> None:
    mask = np.zeros((5, 7), np.uint8)
    mask[1, 2], mask[4, 6] = 1, 255
    assert np.array_equal(decode_mask(encode_image(mask, ImageFormat.PNG)), mask > 0)
    with pytest.raises(InvalidImage, match="cannot be read"):
        decode_mask(b"no mask")


def test_a_preview_is_small_and_keeps_what_is_transparent() -> None:
    opacity = np.repeat([0, 128, 255], 19).reshape(1, 57).repeat(33, 0).astype(np.uint8)
    data = encode_preview(np.dstack([PIXELS, opacity]))
    assert len(data) < len(encode_image(PIXELS, ImageFormat.PNG)) / 2
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("WEBP", "RGBA")
        assert np.array_equal(np.asarray(image)[..., 3], opacity)
