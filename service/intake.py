"""Intake: the image in a request's body, cleaned and stored, so that a job can carry its key."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.protocol import ImageFormat, Tiling
from service.context import Context
from service.settings import Settings

FIELD = "image"
FORM = "multipart/form-data"
RAW = (*(item.media_type for item in ImageFormat), "application/octet-stream")
MAX_FORM_FIELDS = 16
MAX_FIELD_BYTES = 64 * 1024
FORM_OVERHEAD_BYTES = 64 * 1024  # boundaries and headers, on top of the file itself


async def store_upload(http: Request, context: Context, tiling: Tiling) -> str:
    """Key of the cleaned PNG; raises InvalidImage, ImageTooLarge, or HTTPException 415."""
    data = await _read(http)
    limit_bytes = context.settings.max_upload_bytes
    if len(data) > limit_bytes:
        raise ImageTooLarge(f"The image has {len(data):,} bytes; at most {limit_bytes:,} are taken.")
    image = await context.uploads.clean(data)
    check_whole(image.height, image.width, tiling, context.settings)
    return await context.store_blob("uploads", image.png, "png")


def check_whole(height: int, width: int, tiling: Tiling, settings: Settings) -> None:
    """Raises ImageTooLarge for an image that may only go through in tiles."""
    if tiling is Tiling.WHOLE and height * width > settings.max_whole_pixels:
        raise ImageTooLarge(
            f"{height} x {width} pixels are too many for tiling=whole, which takes at most "
            f"{settings.max_whole_pixels:,}; tiling=tiles takes {settings.max_image_pixels:,}."
        )


async def _read(http: Request) -> bytes:
    """The bytes sent. The declared type says only where they are: what they are, they say themselves."""
    declared = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared == FORM:
        return await _read_form(http)
    if declared in RAW:
        return await http.body()
    said = declared or "no content type"
    raise HTTPException(
        415,
        f"Send the image as {FORM} with a file field {FIELD!r}, or raw as {', '.join(RAW)}; not as {said}.",
    )


async def _read_form(http: Request) -> bytes:
    form = http.form(max_files=1, max_fields=MAX_FORM_FIELDS, max_part_size=MAX_FIELD_BYTES)
    async with form as fields:
        upload = fields.get(FIELD)
        if not isinstance(upload, UploadFile):
            raise InvalidRequest(
                f"The form has no file field {FIELD!r}; send one, as in `-F {FIELD}=@photo.jpg`."
            )
        return await upload.read()
