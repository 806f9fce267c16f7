"""`python -m service.decoding MEMORY PARENT WORKS`: decodes what it is given on its standard input.

It opens no file, knows no secret, and may die of any picture: `process.py` then starts another.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from movq_core.edit_area import EditArea, mask_of
from movq_core.errors import ImageTooLarge, InvalidRequest
from service.decoding.documents import read_codes
from service.decoding.frames import Answer, Ask, BrokenFrame, read_frame, write_frame
from service.decoding.limits import limit_cpu, limit_process
from service.decoding.pictures import decoded_rgb, opened

Result = tuple[Answer, list[bytes]]


def main(memory_bytes: int, parent: int, works: int) -> int:
    """Decode one thing after the other, `works` in all; each may be the last."""
    Image.init()  # the decoders are there before files can no longer be opened
    limit_process(memory_bytes, parent)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    for left in reversed(range(works)):
        try:
            ask, parts = read_frame(source, Ask, max_bytes=memory_bytes)
        except BrokenFrame:  # the service has gone
            return 0
        limit_cpu(ask.cpu_s)
        answer, made = _answer(ask, parts)
        answer = answer.model_copy(update={"last": answer.last or left == 0})
        write_frame(sink, answer, made)
        if answer.last:
            return 0
    return 0


def _answer(ask: Ask, parts: list[bytes]) -> Result:
    try:
        return _WORKS[ask.work](ask, parts)
    except InvalidRequest as error:
        return Answer(error=type(error).__name__, message=str(error)[:2000]), []
    except MemoryError:  # what it leaves behind is not worth working in
        message = "It takes more memory to decode than a picture may: send it with fewer pixels."
        return Answer(error=ImageTooLarge.__name__, message=message, last=True), []


def _picture(ask: Ask, parts: list[bytes]) -> Result:
    image = decoded_rgb(parts[0], ask.max_pixels)
    return Answer(shape=[image.height, image.width]), [image.tobytes()]


def _edit(ask: Ask, parts: list[bytes]) -> Result:
    picture = decoded_rgb(parts[0], ask.max_pixels)
    mask = None
    if len(parts) > 1:
        with opened(parts[1], ask.max_pixels) as drawn:
            mask = mask_of(drawn, picture.size)
    area = EditArea.of(
        np.asarray(picture), mask, ask.boxes, ask.margins, strength=ask.strength, max_pixels=ask.max_pixels
    )
    made = [area.image.tobytes()]
    if area.mask is not None:  # white where the image is made anew
        made.append(np.where(area.mask, 255, 0).astype(np.uint8).tobytes())
    return Answer(shape=list(area.image.shape[:2])), made


def _codes(_ask: Ask, parts: list[bytes]) -> Result:
    return read_codes(parts[0])


_WORKS = {"picture": _picture, "edit": _edit, "codes": _codes}

if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
