"""Frames: how service and decoder talk over a pipe. A head in JSON, then parts of bytes; never a pickle.

What a decoder says is not believed: it may have been taken over by what it decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from movq_core.edit_area import Edges

MAX_HEAD_BYTES = 64 * 1024
MAX_PARTS = 2
_LENGTH = struct.Struct("<I")

Head = TypeVar("Head", bound="_Head")


class BrokenFrame(Exception):
    """The other end has gone, or says what it must not."""


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: list[int] = Field(default=[], max_length=MAX_PARTS)  # bytes of each part


class Ask(_Head):
    """What is to be decoded, and within which bounds; the parts are what was sent."""

    work: str
    max_pixels: int = 0
    cpu_s: float = 0.0
    boxes: list[Edges] = []
    margins: Edges | None = None
    strength: float = 1.0


class Answer(_Head):
    """What was found, or why not: `error` names a class of `movq_core/errors.py`, `faults` are pydantic's.

    `shape`: (height, width) of a picture, (channels, rows, columns) of codes, which lie from `least` to
    `most`. `last`: this decoder ends now.
    """

    error: str | None = None
    message: str = Field(default="", max_length=2000)
    faults: list[dict[str, Any]] = Field(default=[], max_length=16)
    shape: list[int] = Field(default=[], max_length=3)
    size: tuple[int, int] = (0, 0)  # pixels that codes stand for, height and width
    model: str = Field(default="", max_length=2000)
    least: int = 0
    most: int = 0
    last: bool = False


def write_frame(stream: BinaryIO, head: _Head, parts: Sequence[bytes | memoryview]) -> None:
    """`head` tells the parts' sizes by itself."""
    told = head.model_copy(update={"sizes": [len(part) for part in parts]}).model_dump_json().encode()
    stream.write(_LENGTH.pack(len(told)) + told)
    for part in parts:
        stream.write(part)
    stream.flush()


def read_frame(stream: BinaryIO, kind: type[Head], max_bytes: int) -> tuple[Head, list[bytes]]:
    """A head and its parts, of `max_bytes` together at most. Raises BrokenFrame."""
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > MAX_HEAD_BYTES:
        raise BrokenFrame(f"a head of {length:,} bytes")
    try:
        head = kind.model_validate_json(_exactly(stream, length))
    except ValueError as error:
        raise BrokenFrame(f"not a head: {error}") from error
    if min(head.sizes, default=0) < 0 or sum(head.sizes) > max_bytes:
        raise BrokenFrame(f"parts of {sum(head.sizes):,} bytes; at most {max_bytes:,} are read")
    return head, [_exactly(stream, size) for size in head.sizes]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise BrokenFrame("the other end has gone")
    return data
