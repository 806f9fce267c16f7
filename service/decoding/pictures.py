"""Pictures: whatever was sent becomes plain RGB pixels, or an error that says why not; Pillow.

The worker sees only what leaves here: 8-bit RGB, upright, in sRGB, on white, without metadata.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from movq_core.errors import ImageTooLarge, InvalidImage
from movq_core.picture import plain_rgb

FORMATS = ("PNG", "JPEG", "WEBP")
ALLOWED = "Send one still PNG, JPEG or WebP image"

# What Pillow's decoders raise on bytes that are not what they claim to be.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

# Pillow warns where it goes on: about odd metadata, which we drop; and about bombs, which we refuse.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decoded_rgb(data: bytes, max_pixels: int) -> Image.Image:
    """The image in `data`: RGB, upright, in sRGB, on white. Raises InvalidImage or ImageTooLarge."""
    with opened(data, max_pixels) as image:
        return plain_rgb(image)


@contextmanager
def opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The image in `data`, decoded; what goes wrong with it, in the block too, becomes an error of ours."""
    if not data:
        raise InvalidImage(f"The image is empty. {ALLOWED}.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image, max_pixels)
            image.load()
            yield image
    except UnidentifiedImageError as error:
        raise InvalidImage(f"These bytes are not an image that we know. {ALLOWED}.") from error
    except _BOMB as error:
        raise ImageTooLarge(f"The image is too large: at most {max_pixels:,} pixels are taken.") from error
    except _DECODE_ERRORS as error:
        raise InvalidImage(
            f"The image is damaged or cut short, and could not be decoded. {ALLOWED}."
        ) from error


def _check(image: Image.Image, max_pixels: int) -> None:
    """Look at the header only: nothing has been decoded yet."""
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageTooLarge(
            f"The image has {image.width} x {image.height} pixels; at most {max_pixels:,} in all are taken."
        )
    # A JPEG with several pictures (MPO) is a phone's photograph with its depth or gain map.
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    if frames > 1:
        raise InvalidImage(f"The image is animated ({frames} frames). {ALLOWED}.")
