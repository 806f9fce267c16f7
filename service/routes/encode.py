"""Encodings: an image as its codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from movq_core.protocol import CodesDocument, EncodeRequest
from service.answers import JSON, accepted, short_job, v1_job
from service.documents import JobDocument
from service.intake import store_upload
from service.negotiation import negotiate
from service.openapi import SHORT, V1_JOB, upload_body
from service.schemas import EncodeQuery, EncodingQuery
from service.submission import ShortCaller, V1Caller, asked_in, submission_of

router = APIRouter(tags=["encodings"])


@router.post("/encode", response_model=CodesDocument, responses=SHORT, openapi_extra=upload_body())
async def encode(caller: ShortCaller, query: Annotated[EncodeQuery, Query()]) -> Response:
    """Encode and wait: the codes as JSON, which `/decode` takes as they are."""
    negotiate(caller.http, [JSON])
    bundle = caller.model(query)
    key = await store_upload(caller, query.tiling)
    submission = submission_of(caller, bundle, query, asked_in(query, {"image": key}))
    request = EncodeRequest(owner=caller.owner, image_key=key, tiling=query.tiling)
    job = await short_job(caller, request, submission, query.wait)
    if job.output is None or job.output.codes_key is None:
        return accepted(caller.context, job)
    codes = await caller.context.read_blob(job.output.codes_key, caller.owner)
    headers = {"X-Movq-Job-Id": job.id, "Cache-Control": "no-store"}
    return Response(codes, media_type=JSON, headers=headers)


@router.post(
    "/v1/encodings",
    status_code=202,
    response_model=JobDocument,
    responses=V1_JOB,
    openapi_extra=upload_body(),
)
async def create_encoding(caller: V1Caller, query: Annotated[EncodingQuery, Query()]) -> Response:
    """Start an encoding: 202, `Location` and the job; `links.codes` names its codes."""
    bundle = caller.model(query)
    key = await store_upload(caller, query.tiling)
    submission = submission_of(caller, bundle, query, asked_in(query, {"image": key}), watched=query.watched)
    request = EncodeRequest(owner=caller.owner, image_key=key, tiling=query.tiling)
    return await v1_job(caller, request, submission)
