"""What uploads become."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageCms

from movq_core.errors import ImageTooLarge, InvalidImage
from service.decoding.pictures import decoded_rgb
from service.uploads import CleanImage, as_png
from tests.service.pictures import animated, cut, encoded, gradient, opened, png_bomb, srgb_profile

MAX_PIXELS = 4096 * 4096


def clean_image(data: bytes, max_pixels: int) -> CleanImage:
    """What decoding and writing make of it, here instead of in two processes."""
    image = decoded_rgb(data, max_pixels)
    return as_png(Image.frombytes("RGB", image.size, image.tobytes()))


def cleaned(data: bytes) -> Image.Image:
    result = clean_image(data, MAX_PIXELS)
    image = opened(result.png)
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert image.info == {}
    assert image.size == (result.width, result.height)
    return image


@pytest.mark.parametrize("size", [(1, 1), (33, 57), (1, 300), (400, 300)])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_every_format_at_every_size(size: tuple[int, int], image_format: str) -> None:
    assert cleaned(encoded(gradient(*size), image_format)).size == size


def test_a_large_photograph() -> None:
    assert cleaned(encoded(gradient(4000, 3000), "JPEG")).size == (4000, 3000)


def test_rgb_pixels_are_kept_exactly() -> None:
    image = gradient()
    assert np.array_equal(np.asarray(cleaned(encoded(image))), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert cleaned(encoded(gradient().convert(mode))).size == (40, 30)


def test_cmyk_jpeg() -> None:
    red = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    assert cleaned(encoded(red, "JPEG", quality=95)).getpixel((8, 8)) == pytest.approx((255, 0, 0), abs=6)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    image = cleaned(encoded(Image.fromarray(values)))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == pytest.approx([0, 128, 255], abs=1)


def test_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    result = cleaned(encoded(image))
    assert [result.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0), (255, 255, 255)]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    result = cleaned(encoded(image, transparency=0))
    assert [result.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (200, 100, 50)]


def test_a_transparent_grey_is_white() -> None:
    image = Image.new("L", (2, 1), 0)
    image.putpixel((1, 0), 90)
    result = cleaned(encoded(image, transparency=0))
    assert [result.getpixel((x, 0)) for x in range(2)] == [(255,) * 3, (90,) * 3]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))  # left half
    result = cleaned(encoded(image, "JPEG", exif=exif, quality=95))
    assert result.size == (20, 40)
    assert result.getpixel((10, 5)) == pytest.approx((255,) * 3, abs=4)  # now the upper half
    assert result.getpixel((10, 35)) == pytest.approx((0,) * 3, abs=4)


def test_an_icc_profile_is_applied() -> None:
    profile = ImageCms.createProfile("XYZ")
    data = encoded(gradient(), icc_profile=ImageCms.ImageCmsProfile(profile).tobytes())
    assert cleaned(data).size == (40, 30)  # of another colour space: ignored, not fatal
    image = gradient()
    same = cleaned(encoded(image, icc_profile=srgb_profile()))
    assert np.abs(np.asarray(same, int) - np.asarray(image, int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_a_profile_that_fits_no_mode_harms_nothing(mode: str) -> None:
    assert cleaned(encoded(gradient().convert(mode), icc_profile=srgb_profile())).size == (40, 30)


def test_a_broken_profile_is_ignored() -> None:
    assert cleaned(encoded(gradient(), icc_profile=b"no profile at all")).size == (40, 30)


def test_the_same_image_gives_the_same_bytes() -> None:
    data = encoded(gradient(), "WEBP", lossless=True)
    assert clean_image(data, MAX_PIXELS) == clean_image(data, MAX_PIXELS)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_animations_are_refused(image_format: str) -> None:
    with pytest.raises(InvalidImage, match=r"animated \(3 frames\)\. Send one still"):
        clean_image(animated(image_format), MAX_PIXELS)


def test_a_phones_picture_with_a_second_one_inside_is_its_first() -> None:
    second = gradient(20, 20)
    assert cleaned(encoded(gradient(), "MPO", save_all=True, append_images=[second])).size == (40, 30)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"this is a text file\n" * 50, "not an image that we know"),
        (encoded(gradient(), "GIF"), "Send one still PNG, JPEG or WebP"),
        (encoded(gradient(), "BMP"), "not an image"),
        (cut(encoded(gradient(300, 300))), "damaged or cut short"),
        (cut(encoded(gradient(300, 300), "JPEG")), "damaged or cut short"),
        (cut(encoded(gradient(300, 300), "WEBP")), "damaged or cut short"),
        (b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    ],
)
def test_what_is_no_image(data: bytes, says: str) -> None:
    with pytest.raises(InvalidImage, match=says):
        clean_image(data, MAX_PIXELS)


@pytest.mark.parametrize("size", [(5000, 5000), (12_000, 12_000), (60_000, 60_000)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLarge, match="16,777,216"):
        clean_image(png_bomb(*size), MAX_PIXELS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # as the service has it, for Pillow's
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_damaged_files_raise_nothing_of_their_own(image_format: str) -> None:
    dice = random.Random(4)
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = encoded(gradient(), image_format, exif=exif, icc_profile=srgb_profile())
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        del data[dice.randint(len(data) // 2, len(data)) :]
        try:
            clean_image(bytes(data), MAX_PIXELS)
        except (InvalidImage, ImageTooLarge):
            refused += 1
    assert refused > 0
