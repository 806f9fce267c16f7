"""Pictures in files: their names, their formats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from movq_core.protocol import ImageFormat

if TYPE_CHECKING:
    from PIL import Image

    from movq_core.edits import Mask
    from movq_core.tiles import Pixels

_FORMATS = {
    ".png": ImageFormat.PNG,
    ".webp": ImageFormat.WEBP,
    ".jpg": ImageFormat.JPEG,
    ".jpeg": ImageFormat.JPEG,
}


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
    from movq_core.picture import encode_image

    path.write_bytes(encode_image(pixels, format_of(path)))


def read_picture(path: Path) -> Pixels:
    """8-bit RGB (h, w, 3), upright, in sRGB, on white; raises InvalidImage or ImageTooLarge."""
    import numpy as np

    from movq_core.picture import plain_rgb

    with _opened(path) as picture:
        return np.asarray(plain_rgb(picture))


def read_mask(path: Path, image: Pixels) -> Mask:
    """Where a mask of `image` says to make it anew; raises InvalidRequest and its kinds."""
    from movq_core.edit_area import mask_of

    with _opened(path) as picture:
        return mask_of(picture, (image.shape[1], image.shape[0]))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file, decoded; what Pillow says of it, in the block too, becomes an error of ours."""
    from PIL import Image

    from movq_core.errors import ImageTooLarge, InvalidImage
    from movq_core.movq_file import MAX_PIXELS

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageTooLarge(f"{path}: {picture.width}x{picture.height}; at most {MAX_PIXELS} pixels")
            picture.load()
            yield picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidImage(f"{path}: {error}") from error
