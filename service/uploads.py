"""Uploads: whatever was sent becomes plain pixels and checked codes, or an error that says why not.

Hostile bytes are decoded in processes of their own (decision 26). What comes back are numbers, whose count
is checked; the PNG that a worker opens is written here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from PIL import Image

from movq_core.errors import ImageTooLarge, InvalidImage, InvalidRequest
from movq_core.protocol import CodesDocument
from service.bodies import InvalidBody
from service.decoding.frames import Answer, Ask
from service.decoding.pool import DecodingPool, Made
from service.decoding.process import DecodingDied, DecodingTimeout
from service.schemas import EditFields

_REFUSALS = {kind.__name__: kind for kind in (InvalidRequest, InvalidImage, ImageTooLarge)}

Result = TypeVar("Result")

log = structlog.get_logger("movq.uploads")


@dataclass(frozen=True)
class CleanImage:
    """`png` bytes of `height` x `width` pixels."""

    png: bytes
    height: int
    width: int


@dataclass(frozen=True)
class EditImages:
    """What the worker sees; `mask` is None where the whole image may change."""

    image: CleanImage
    mask: CleanImage | None


@dataclass(frozen=True)
class ReceivedCodes:
    """What a document of codes tells: `shape` (channels, rows, columns), `size` (height, width) in pixels.

    A grid whose rows or channels differ in length has the shape (channels, 0, 0).
    """

    document: bytes
    model: str
    size: tuple[int, int]
    shape: tuple[int, int, int]
    least: int
    most: int


class Uploads:
    """Decodes what callers send. Every method raises InvalidRequest's kinds, in sentences.

    `on_refusal` is told why, in a word: refused (by the decoder), timeout, died (the decoder did).
    """

    def __init__(self, pool: DecodingPool, on_refusal: Callable[[str], None] = lambda _: None) -> None:
        self._pool = pool
        self._on_refusal = on_refusal

    def start(self) -> None:
        self._pool.start()

    def close(self) -> None:
        self._pool.close()

    async def clean(self, data: bytes) -> CleanImage:
        """The image in `data`; raises InvalidImage or ImageTooLarge."""
        return await self._ask(
            Ask(work="picture"), [data], lambda answer, parts: self._image(answer, parts[0])
        )

    async def edit(self, image: bytes, mask: bytes | None, fields: EditFields) -> EditImages:
        """Image and mask of an edit: decoded, joined with its boxes and expanded (decision 17)."""
        ask = Ask(work="edit", boxes=fields.box, margins=fields.expand, strength=fields.strength)
        return await self._ask(ask, [image] if mask is None else [image, mask], self._edit_images)

    async def codes(self, data: bytes) -> ReceivedCodes:
        """What a document of codes tells of itself; raises InvalidBody. Its model is not looked at."""
        return await self._ask(Ask(work="codes"), [data], self._received, what="The document of codes")

    async def _ask(
        self, ask: Ask, parts: Sequence[bytes], made: Made[Result], what: str = "The image"
    ) -> Result:
        def checked(answer: Answer, made_parts: list[bytes]) -> Result:
            if answer.error is not None:
                self._on_refusal("refused")
                raise _refusal(answer)
            try:
                return made(answer, made_parts)
            except (ValueError, IndexError) as error:  # not as many parts, or numbers, as there should be
                raise DecodingDied(f"an answer that cannot be: {error}") from error

        try:
            return await self._pool.ask(ask, parts, checked)
        except DecodingTimeout as error:
            self._on_refusal("timeout")
            raise InvalidImage(f"{what} could not be decoded within {self._pool.timeout_s:g} s.") from error
        except DecodingDied as error:
            self._on_refusal("died")
            log.warning("a decoder died of what it was given", work=ask.work, reason=str(error))
            raise InvalidImage(f"{what} is damaged: its decoder did not survive it.") from error

    def _image(self, answer: Answer, pixels: bytes, mode: str = "RGB") -> CleanImage:
        height, width = self._size(answer)
        if len(pixels) != height * width * len(mode):
            raise DecodingDied(f"{len(pixels)} bytes for {height} x {width} pixels")
        return as_png(Image.frombytes(mode, (width, height), pixels))

    def _edit_images(self, answer: Answer, parts: list[bytes]) -> EditImages:
        image, *masks = parts
        return EditImages(self._image(answer, image), self._image(answer, masks[0], "L") if masks else None)

    def _size(self, answer: Answer) -> tuple[int, int]:
        if len(answer.shape) != 2 or min(answer.shape) < 1:
            raise DecodingDied(f"no size of a picture: {answer.shape}")
        height, width = answer.shape
        if height * width > self._pool.max_pixels:
            raise DecodingDied(f"{height} x {width} pixels")
        return height, width

    def _received(self, answer: Answer, parts: list[bytes]) -> ReceivedCodes:
        channels, rows, columns = answer.shape
        shape = channels, rows, columns
        return ReceivedCodes(parts[0], answer.model, answer.size, shape, answer.least, answer.most)


def as_png(image: Image.Image) -> CleanImage:
    """`image` as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return CleanImage(buffer.getvalue(), image.height, image.width)


def _refusal(answer: Answer) -> Exception:
    """The error that the decoder tells of; one that it must not know is its bytes' fault."""
    if answer.error == InvalidBody.__name__:
        return InvalidBody(answer.faults, list(CodesDocument.model_fields))
    return _REFUSALS.get(str(answer.error), InvalidImage)(answer.message)
