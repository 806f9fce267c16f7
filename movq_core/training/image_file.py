"""An image file as a square of pixels: any format, size and mode that Pillow reads."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from movq_core.errors import MovqError

WHITE = (255, 255, 255)

# What Pillow's decoders raise on bytes that are not what they claim to be.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


class UnusableData(MovqError):
    """Images or folders that nothing can be learnt from; the sentence says what is missing."""


class UnreadableImage(UnusableData):
    """The bytes are not an image that Pillow reads."""


# A large image is read; one that would be a bomb is refused with an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, with the dot, of the formats that Pillow opens."""
    return frozenset(end for end, name in Image.registered_extensions().items() if name in Image.OPEN)


class Fit(StrEnum):
    """CROP: the square fills with the image's middle, for photographs. PAD: the whole on white, for icons."""

    CROP = "crop"
    PAD = "pad"


@dataclass(frozen=True)
class Framing:
    """How an image of any shape becomes a square, with a margin that random crops may move in.

    `size` is the models' image size, `side` the square's.
    """

    size: int
    fit: Fit = Fit.CROP

    @property
    def side(self) -> int:
        return self.size + 2 * (self.size // 16)

    @property
    def room(self) -> int:
        """Pixels that a window of `size` may move in the square."""
        return self.side - self.size

    def square(self, data: bytes) -> NDArray[np.uint8]:
        """The image upright and on white as RGB (side, side, 3); raises UnreadableImage."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.draft("RGB", (self.side, self.side))  # a JPEG of megapixels is decoded smaller
                plain = on_white(ImageOps.exif_transpose(image))
                return np.asarray(self._fitted(plain))
        except UnidentifiedImageError as error:
            raise UnreadableImage("not an image that Pillow knows") from error
        except _DECODE_ERRORS as error:
            raise UnreadableImage(str(error) or type(error).__name__) from error

    def _fitted(self, image: Image.Image) -> Image.Image:
        if self.fit is Fit.CROP:
            return ImageOps.fit(image, (self.side, self.side), Image.Resampling.LANCZOS)
        inside = ImageOps.pad(image, (self.size, self.size), Image.Resampling.LANCZOS, color=WHITE)
        return ImageOps.expand(inside, self.room // 2, WHITE)


def on_white(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent becomes white."""
    if image.mode.startswith("I"):  # 16 bits to 8
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*WHITE, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
