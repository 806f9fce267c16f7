"""Pictures in files: their names, their formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from movq_core.protocol import ImageFormat

if TYPE_CHECKING:
    from movq_core.tiles import Pixels

_FORMATS = {
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
}
QUALITY = 92  # of JPEG and WebP


def format_of(path: Path) -> ImageFormat:
    """The format that a path's ending stands for; raises typer.BadParameter."""
    if path.suffix.lower() not in _FORMATS:
        raise typer.BadParameter(f"{path} must end in {', '.join(_FORMATS)}", param_hint="--out")
    return _FORMATS[path.suffix.lower()]


def paths_of(out: Path, count: int) -> list[Path]:
    """`out`, or for several images `out-0`, `out-1`... with its ending."""
    if count == 1:
        return [out]
    return [out.with_stem(f"{out.stem}-{index}") for index in range(count)]


def write_picture(pixels: Pixels, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path, format_of(path).value, quality=QUALITY)


def read_picture(path: Path) -> Pixels:
    """8-bit RGB (h, w, 3), upright, on white; raises InvalidImage or ImageTooLarge."""
    import numpy as np
    from PIL import Image, ImageOps

    from movq_core.errors import ImageTooLarge, InvalidImage
    from movq_core.movq_file import MAX_PIXELS

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageTooLarge(f"{path}: {image.width}x{image.height}; at most {MAX_PIXELS} pixels")
            upright = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidImage(f"{path}: {error}") from error
    white = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(white, upright).convert("RGB"))
