"""Edits: part of an image made anew, or all of it a little."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from movq_core.protocol import EditRequest, ImageFormat
from service.answers import format_of, offers, short_image, v1_job
from service.bodies import read_fields, read_file
from service.catalog import Bundle
from service.documents import JobDocument
from service.generation import check_prior, edit_request
from service.intake import FIELD, MASK, form_of, required_image, store_edit
from service.negotiation import negotiate
from service.openapi import SHORT_IMAGE, V1_JOB, edit_body
from service.schemas import EditFields, ShortQuery, WatchedQuery
from service.submission import Caller, ShortCaller, V1Caller, asked_in, submission_of

router = APIRouter(tags=["edits"])


@router.post("/edit", response_model=JobDocument, responses=SHORT_IMAGE, openapi_extra=edit_body(EditFields))
async def edit(caller: ShortCaller, query: Annotated[ShortQuery, Query()]) -> Response:
    """Edit and wait: JSON with links, or with `Accept: image/png` the first image itself."""
    image, mask, fields = await _read(caller)
    asked = fields.format if "format" in fields.model_fields_set else None
    media_type = negotiate(caller.http, offers(asked))
    bundle, request = await _request(caller, image, mask, fields, format_of(media_type, asked))
    words = asked_in(fields, {"image": request.image_key, "mask": request.mask_key, "as": media_type})
    submission = submission_of(caller, bundle, fields, words)
    return await short_image(caller, request, submission, query.wait, media_type)


@router.post(
    "/v1/edits",
    status_code=202,
    response_model=JobDocument,
    responses=V1_JOB,
    openapi_extra=edit_body(EditFields),
)
async def create_edit(caller: V1Caller, query: Annotated[WatchedQuery, Query()]) -> Response:
    """Start an edit: 202, `Location` and the job. `Prefer: wait=N` waits for it.

    What is made anew is said by `mask` (transparent, or white where it has no alpha), by each `box`, by the
    margin that `expand` adds, or by all of them together; or by a `strength` below 1 alone, which makes a
    variation of the whole.
    """
    image, mask, fields = await _read(caller)
    bundle, request = await _request(caller, image, mask, fields, fields.format)
    words = asked_in(fields, {"image": request.image_key, "mask": request.mask_key})
    submission = submission_of(caller, bundle, fields, words, watched=query.watched)
    return await v1_job(caller, request, submission)


async def _read(caller: Caller) -> tuple[bytes, bytes | None, EditFields]:
    max_bytes = caller.context.settings.max_upload_bytes
    async with form_of(caller.http) as form:
        fields = read_fields(form, EditFields, (FIELD, MASK))
        return await required_image(form, max_bytes), await read_file(form, MASK, max_bytes), fields


async def _request(
    caller: Caller, image: bytes, mask: bytes | None, fields: EditFields, image_format: ImageFormat
) -> tuple[Bundle, EditRequest]:
    bundle = caller.model(fields)
    check_prior(bundle.manifest)  # before the pictures are worked on
    image_key, mask_key = await store_edit(caller, image, mask, fields)
    request = edit_request(
        fields, bundle.manifest, image_format, caller.owner, image_key=image_key, mask_key=mask_key
    )
    return bundle, request
