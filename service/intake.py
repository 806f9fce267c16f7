"""Intake: the images in a request's body, cleaned and stored, so that a job can carry their keys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.protocol import ImageFormat, Tiling
from service.bodies import FORM, MAX_FIELD_BYTES, MAX_FORM_FIELDS, media_type_of, read_file
from service.schemas import EditFields
from service.settings import Settings
from service.submission import Caller

FIELD = "image"
MASK = "mask"
RAW = (*(item.media_type for item in ImageFormat), "application/octet-stream")
FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and headers, on top of the file itself


async def store_upload(caller: Caller, tiling: Tiling) -> str:
    """Key of the cleaned PNG; raises InvalidImage, ImageTooLarge, or HTTPException 415."""
    context = caller.context
    data = await _read(caller.http, context.settings.max_upload_bytes)
    image = await context.uploads.clean(data)
    check_whole(image.height, image.width, tiling, context.settings)
    return await context.store_blob("uploads", image.png, "png", caller.owner)


async def store_edit(
    caller: Caller, image: bytes, mask: bytes | None, fields: EditFields
) -> tuple[str, str | None]:
    """Keys of the image and of its mask, None where all of it may change. Raises InvalidRequest's kinds."""
    context = caller.context
    made = await context.uploads.edit(image, mask, fields)
    image_key = await context.store_blob("uploads", made.image.png, "png", caller.owner)
    if made.mask is None:
        return image_key, None
    return image_key, await context.store_blob("uploads", made.mask.png, "png", caller.owner)


def check_whole(height: int, width: int, tiling: Tiling, settings: Settings) -> None:
    """Raises ImageTooLarge for an image that may only go through in tiles."""
    if tiling is Tiling.WHOLE and height * width > settings.max_whole_pixels:
        raise ImageTooLarge(
            f"{height} x {width} pixels are too many for tiling=whole, which takes at most "
            f"{settings.max_whole_pixels:,}; tiling=tiles takes {settings.max_image_pixels:,}."
        )


@asynccontextmanager
async def form_of(http: Request) -> AsyncIterator[FormData]:
    """The fields of a multipart body; raises HTTPException 415 for another."""
    if media_type_of(http) != FORM:
        raise HTTPException(415, f"Send a form, as {FORM}; with curl each -F is a field of it.")
    async with http.form(max_files=2, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES) as form:
        yield form


async def required_image(form: FormData, max_bytes: int) -> bytes:
    """Bytes of the form's image; raises InvalidRequest."""
    data = await read_file(form, FIELD, max_bytes)
    if data is None:
        raise InvalidRequest(
            f"The form has no file field {FIELD!r}; send one, as in `-F {FIELD}=@photo.jpg`."
        )
    return data


async def _read(http: Request, max_bytes: int) -> bytes:
    """The bytes sent. The declared type says only where they are: what they are, they say themselves."""
    declared = media_type_of(http)
    if declared == FORM:
        async with form_of(http) as form:
            return await required_image(form, max_bytes)
    if declared not in RAW:
        raise HTTPException(
            415,
            f"Send the image as {FORM} with a file field {FIELD!r}, or raw as {', '.join(RAW)}; not as "
            f"{declared or 'no content type'}.",
        )
    data = await http.body()
    if len(data) > max_bytes:
        raise ImageTooLarge(f"The image has {len(data):,} bytes; at most {max_bytes:,} are taken.")
    return data
