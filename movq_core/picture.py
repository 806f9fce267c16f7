"""What a picture shows, whatever its file: 8-bit RGB, upright, in sRGB, on white; Pillow, no torch."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageOps

_WHITE = (255, 255, 255)


def plain_rgb(image: Image.Image) -> Image.Image:
    """`image`, decoded, as plain RGB; what Pillow raises on a damaged one passes."""
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


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Colours by the image's own profile; one that is broken or of another colour space is ignored."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image
