"""Reconstructions: an image through the tokenizer and back, at the size that went in."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from movq_core.protocol import ImageFormat, ReconstructRequest, Tiling
from service.answers import (
    IMAGE_RESPONSES,
    JOB_RESPONSES,
    Wait,
    format_of,
    offers,
    schema_of_upload,
    short_image,
    v1_job,
)
from service.context import Ctx
from service.intake import store_upload
from service.negotiation import negotiate
from service.problems import declare
from service.schemas import JobDocument

router = APIRouter(tags=["reconstruct"])


@router.post(
    "/reconstruct",
    response_model=JobDocument,
    responses=IMAGE_RESPONSES | declare(415),
    openapi_extra=schema_of_upload(),
)
async def reconstruct(
    http: Request,
    context: Ctx,
    format: ImageFormat | None = None,
    tiling: Tiling = Tiling.TILES,
    wait: Wait = None,
) -> Response:
    """Reconstruct and wait: JSON with PSNR, SSIM and code size, or the image with these in headers."""
    media_type = negotiate(http, offers(format))
    key = await store_upload(http, context, tiling)
    request = ReconstructRequest(image_key=key, tiling=tiling, format=format_of(media_type, format))
    return await short_image(http, context, request, wait, media_type)


@router.post(
    "/v1/reconstructions",
    status_code=202,
    response_model=JobDocument,
    responses=JOB_RESPONSES | declare(415),
    openapi_extra=schema_of_upload(),
)
async def create_reconstruction(
    http: Request, context: Ctx, format: ImageFormat = ImageFormat.PNG, tiling: Tiling = Tiling.TILES
) -> Response:
    """Start a reconstruction: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    key = await store_upload(http, context, tiling)
    return await v1_job(http, context, ReconstructRequest(image_key=key, tiling=tiling, format=format))
