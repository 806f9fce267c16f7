"""Reconstructions: an image through the tokenizer and back, at the size that went in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from movq_core.protocol import ReconstructRequest
from service.answers import format_of, offers, short_image, v1_job
from service.documents import JobDocument
from service.intake import store_upload
from service.negotiation import negotiate
from service.openapi import SHORT_IMAGE, V1_JOB, upload_body
from service.schemas import ImageJobQuery, ImageQuery
from service.submission import ShortCaller, V1Caller, asked_in, submission_of

router = APIRouter(tags=["reconstructions"])


@router.post("/reconstruct", response_model=JobDocument, responses=SHORT_IMAGE, openapi_extra=upload_body())
async def reconstruct(caller: ShortCaller, query: Annotated[ImageQuery, Query()]) -> Response:
    """Reconstruct and wait: JSON with PSNR, SSIM and code size, or the image with these in headers."""
    media_type = negotiate(caller.http, offers(query.format))
    bundle = caller.model(query)
    key = await store_upload(caller, query.tiling)
    submission = submission_of(caller, bundle, query, asked_in(query, {"image": key, "as": media_type}))
    request = ReconstructRequest(
        owner=caller.owner, image_key=key, tiling=query.tiling, format=format_of(media_type, query.format)
    )
    return await short_image(caller, request, submission, query.wait, media_type)


@router.post(
    "/v1/reconstructions",
    status_code=202,
    response_model=JobDocument,
    responses=V1_JOB,
    openapi_extra=upload_body(),
)
async def create_reconstruction(caller: V1Caller, query: Annotated[ImageJobQuery, Query()]) -> Response:
    """Start a reconstruction: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    bundle = caller.model(query)
    key = await store_upload(caller, query.tiling)
    submission = submission_of(caller, bundle, query, asked_in(query, {"image": key}), watched=query.watched)
    request = ReconstructRequest(owner=caller.owner, image_key=key, tiling=query.tiling, format=query.format)
    return await v1_job(caller, request, submission)
