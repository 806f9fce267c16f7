"""Decodings: codes back to an image."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from movq_core.protocol import DecodeRequest
from service.answers import format_of, offers, short_image, v1_job
from service.codes import store_codes
from service.documents import JobDocument
from service.negotiation import negotiate
from service.openapi import SHORT_IMAGE, V1_JOB, codes_body
from service.schemas import ImageJobQuery, ImageQuery
from service.submission import ShortCaller, V1Caller, asked_in, submission_of

router = APIRouter(tags=["decodings"])


@router.post("/decode", response_model=JobDocument, responses=SHORT_IMAGE, openapi_extra=codes_body())
async def decode(caller: ShortCaller, query: Annotated[ImageQuery, Query()]) -> Response:
    """Decode and wait: JSON with a link, or with `Accept: image/png` the image itself."""
    media_type = negotiate(caller.http, offers(query.format))
    key, bundle = await store_codes(caller, query)
    submission = submission_of(caller, bundle, query, asked_in(query, {"codes": key, "as": media_type}))
    request = DecodeRequest(
        owner=caller.owner, codes_key=key, tiling=query.tiling, format=format_of(media_type, query.format)
    )
    return await short_image(caller, request, submission, query.wait, media_type)


@router.post(
    "/v1/decodings",
    status_code=202,
    response_model=JobDocument,
    responses=V1_JOB,
    openapi_extra=codes_body(),
)
async def create_decoding(caller: V1Caller, query: Annotated[ImageJobQuery, Query()]) -> Response:
    """Start a decoding: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    key, bundle = await store_codes(caller, query)
    submission = submission_of(caller, bundle, query, asked_in(query, {"codes": key}), watched=query.watched)
    request = DecodeRequest(owner=caller.owner, codes_key=key, tiling=query.tiling, format=query.format)
    return await v1_job(caller, request, submission)
