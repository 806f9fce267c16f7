"""Picture files, read and written by one rule wherever that is done; Pillow, no torch."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageOps

from movq_core.protocol import ImageFormat
from movq_core.tiles import Pixels

# Every choice that Pillow could otherwise make by itself is made here: same pixels, same bytes.
_SAVE_OPTIONS: dict[ImageFormat, dict[str, object]] = {
    # Half the time of 6, zlib's own choice, for a hundredth more bytes.
    ImageFormat.PNG: {"optimize": False, "compress_level": 4},
    ImageFormat.WEBP: {"lossless": False, "quality": 90, "method": 4},
    ImageFormat.JPEG: {"quality": 92, "subsampling": 0, "optimize": False, "progressive": False},
}
_WHITE = (255, 255, 255)


def plain_rgb(image: Image.Image) -> Image.Image:
    """What `image`, decoded, shows: 8-bit RGB, upright, in sRGB, on white.

    What Pillow raises on a damaged one passes.
    """
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")  # 16 bits to 8
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    if profile:
        image = _to_srgb(image, profile)
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, (*_WHITE, 255))
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB")


def encode_image(pixels: Pixels, image_format: ImageFormat) -> bytes:
    """An image file of RGB pixels (h, w, 3); equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format.value, **_SAVE_OPTIONS[image_format])
    return buffer.getvalue()


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours by the image's own profile; one that is broken or of another colour space is ignored."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image
