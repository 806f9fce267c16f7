"""Decodings: codes back to an image."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from movq_core.errors import ImageTooLarge, InvalidRequest
from movq_core.manifest import Manifest
from movq_core.protocol import CodesDocument, DecodeRequest, ImageFormat, Tiling
from service.answers import IMAGE_RESPONSES, JOB_RESPONSES, Wait, format_of, offers, short_image, v1_job
from service.context import Context, Ctx
from service.intake import check_whole
from service.negotiation import negotiate
from service.problems import declare
from service.schemas import JobDocument

router = APIRouter(tags=["decode"])


@router.post("/decode", response_model=JobDocument, responses=IMAGE_RESPONSES | declare(415))
async def decode(
    http: Request,
    context: Ctx,
    body: CodesDocument,
    format: ImageFormat | None = None,
    tiling: Tiling = Tiling.TILES,
    wait: Wait = None,
) -> Response:
    """Decode and wait: JSON with a link, or with `Accept: image/png` the image itself."""
    media_type = negotiate(http, offers(format))
    key = await _store(context, body, tiling)
    request = DecodeRequest(codes_key=key, tiling=tiling, format=format_of(media_type, format))
    return await short_image(http, context, request, wait, media_type)


@router.post(
    "/v1/decodings", status_code=202, response_model=JobDocument, responses=JOB_RESPONSES | declare(415)
)
async def create_decoding(
    http: Request,
    context: Ctx,
    body: CodesDocument,
    format: ImageFormat = ImageFormat.PNG,
    tiling: Tiling = Tiling.TILES,
) -> Response:
    """Start a decoding: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    key = await _store(context, body, tiling)
    return await v1_job(http, context, DecodeRequest(codes_key=key, tiling=tiling, format=format))


async def _store(context: Context, document: CodesDocument, tiling: Tiling) -> str:
    check_codes(document, context.manifest, context.settings.max_image_pixels)
    check_whole(document.height, document.width, tiling, context.settings)
    return await context.store_blob("codes", document.model_dump_json().encode(), "json")


def check_codes(document: CodesDocument, manifest: Manifest, max_pixels: int) -> None:
    """Raises InvalidRequest or ImageTooLarge unless the codes are a picture of this model."""
    movq = manifest.movq
    if document.model != manifest.name:
        raise InvalidRequest(
            f"These codes belong to the model {document.model[:60]!r}; this one is {manifest.name!r}."
        )
    if document.height * document.width > max_pixels:
        raise ImageTooLarge(
            f"{document.height} x {document.width} pixels are too many; at most {max_pixels:,} are taken."
        )
    if len(document.codes) != movq.code_channels:
        raise InvalidRequest(
            f"codes has {len(document.codes)} channels; this model has {movq.code_channels}."
        )
    rows = _cells(document.height, movq.downsampling_factor)
    columns = _cells(document.width, movq.downsampling_factor)
    for channel in document.codes:
        if len(channel) != rows or any(len(row) != columns for row in channel):
            raise InvalidRequest(
                f"{document.height} x {document.width} pixels have {rows} x {columns} codes in each channel; "
                f"this grid has another shape."
            )
        if any(min(row) < 0 or max(row) >= movq.codebook_size for row in channel):
            raise InvalidRequest(f"A code is out of range; allowed are 0 to {movq.codebook_size - 1}.")


def _cells(pixels: int, factor: int) -> int:
    """Cells that cover `pixels`, the last one padded."""
    return -(-pixels // factor)
