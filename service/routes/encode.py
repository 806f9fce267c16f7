"""Encodings: an image as its codes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from movq_core.protocol import CodesDocument, EncodeRequest, Tiling
from service.answers import JOB_RESPONSES, JSON, Wait, accepted, schema_of_upload, short_job, v1_job
from service.context import Ctx
from service.intake import store_upload
from service.negotiation import negotiate
from service.problems import declare
from service.schemas import JobDocument

router = APIRouter(tags=["encode"])


@router.post(
    "/encode",
    response_model=CodesDocument,
    responses=JOB_RESPONSES | declare(406, 409, 415),
    openapi_extra=schema_of_upload(),
)
async def encode(http: Request, context: Ctx, tiling: Tiling = Tiling.TILES, wait: Wait = None) -> Response:
    """Encode and wait: the codes as JSON, which `/decode` takes as they are."""
    negotiate(http, [JSON])
    key = await store_upload(http, context, tiling)
    job = await short_job(http, context, EncodeRequest(image_key=key, tiling=tiling), wait)
    if job.output is None or job.output.codes_key is None:
        return accepted(context, job)
    codes = await context.read_blob(job.output.codes_key)
    return Response(codes, media_type=JSON, headers={"X-Movq-Job-Id": job.id})


@router.post(
    "/v1/encodings",
    status_code=202,
    response_model=JobDocument,
    responses=JOB_RESPONSES | declare(415),
    openapi_extra=schema_of_upload(),
)
async def create_encoding(http: Request, context: Ctx, tiling: Tiling = Tiling.TILES) -> Response:
    """Start an encoding: 202, `Location` and the job; `links.codes` names its codes."""
    key = await store_upload(http, context, tiling)
    return await v1_job(http, context, EncodeRequest(image_key=key, tiling=tiling))
