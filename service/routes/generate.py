"""Generations: images of a class, or of none."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.answers import format_of, offers, short_image, v1_job
from service.documents import JobDocument
from service.generation import generation_request
from service.negotiation import negotiate
from service.openapi import SHORT_IMAGE, V1_JOB
from service.schemas import GenerationBody, ShortQuery, WatchedQuery
from service.submission import ShortCaller, V1Caller, asked_in, submission_of

router = APIRouter(tags=["generations"])


@router.post("/generate", response_model=JobDocument, responses=SHORT_IMAGE)
async def generate(
    caller: ShortCaller, body: GenerationBody, query: Annotated[ShortQuery, Query()]
) -> Response:
    """Generate and wait: JSON with links, or with `Accept: image/png` the first image itself."""
    asked = body.format if "format" in body.model_fields_set else None
    media_type = negotiate(caller.http, offers(asked))
    bundle = caller.model(body)
    request = generation_request(body, bundle.manifest, format_of(media_type, asked), caller.owner)
    submission = submission_of(caller, bundle, body, asked_in(body, {"as": media_type}))
    return await short_image(caller, request, submission, query.wait, media_type)


@router.post("/v1/generations", status_code=202, response_model=JobDocument, responses=V1_JOB)
async def create_generation(
    caller: V1Caller, body: GenerationBody, query: Annotated[WatchedQuery, Query()]
) -> Response:
    """Start a generation: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    bundle = caller.model(body)
    request = generation_request(body, bundle.manifest, body.format, caller.owner)
    submission = submission_of(caller, bundle, body, asked_in(body), watched=query.watched)
    return await v1_job(caller, request, submission)
