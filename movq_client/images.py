"""Images: what is sent, and what comes back."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image

from movq_client.errors import InvalidRequest

# A file, its bytes, a Pillow image, or an array (height, width, 3) of bytes such as numpy's.
Picture = str | Path | bytes | PIL.Image.Image | Any


@dataclass(frozen=True)
class Image:
    """An image that the server made.

    `image`: for Pillow. `data`: the file, byte for byte. `url`: where it is. `seed`: with it and the same
    choices the same image is made again; None where nothing was drawn by chance. A notebook shows it.
    """

    image: PIL.Image.Image
    data: bytes = field(repr=False)
    url: str
    seed: int | None = None

    def save(self, path: str | Path) -> None:
        """Write it; the path's ending says the format, and the server's own file is kept where it is that."""
        if PIL.Image.registered_extensions().get(Path(path).suffix.lower()) == self.image.format:
            Path(path).write_bytes(self.data)
        else:
            self.image.save(path)

    def _repr_png_(self) -> bytes:
        return png_of(self.image)


@dataclass(frozen=True)
class Reconstruction(Image):
    """An image that went through the codes and back, and how it compares with what went in.

    `psnr_db`: None when both are equal, for the ratio is infinite. `ssim`: None for images smaller than its
    window. `codes_bytes`: size of the codes, packed; `bits_per_pixel`: the same, for each pixel.
    """

    psnr_db: float | None = None
    ssim: float | None = None
    codes_bytes: int = 0
    bits_per_pixel: float = 0.0


def opened(data: bytes) -> PIL.Image.Image:
    """The image in a file's bytes, decoded."""
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


def bytes_of(picture: Picture) -> bytes:
    """An image file to send: files and bytes as they are, pixels as PNG.

    Raises OSError for a file that cannot be read, and InvalidRequest for what is no picture.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    if isinstance(picture, PIL.Image.Image):
        return png_of(picture)
    try:
        return png_of(PIL.Image.fromarray(picture))
    except (AttributeError, TypeError, KeyError) as error:
        raise InvalidRequest(
            f"{type(picture).__name__} is no picture; give a path, bytes, a Pillow image or an array."
        ) from error


def png_of(image: PIL.Image.Image) -> bytes:
    """What PNG cannot hold, such as CMYK, becomes RGB."""
    buffer = io.BytesIO()
    fits = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    (image if fits else image.convert("RGB")).save(buffer, "PNG")
    return buffer.getvalue()
