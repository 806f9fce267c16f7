"""Generations: images of a class, or of none."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request, Response

from movq_core.errors import InvalidRequest
from movq_core.manifest import Manifest
from movq_core.params import MAX_SEED, SamplingParams
from movq_core.protocol import GenerateRequest, ImageFormat
from service.answers import IMAGE_RESPONSES, JOB_RESPONSES, Wait, format_of, offers, short_image, v1_job
from service.context import Ctx
from service.negotiation import negotiate
from service.problems import declare
from service.schemas import GenerationBody, JobDocument

router = APIRouter(tags=["generate"])


@router.post("/generate", response_model=JobDocument, responses=IMAGE_RESPONSES | declare(415))
async def generate(http: Request, context: Ctx, body: GenerationBody, wait: Wait = None) -> Response:
    """Generate and wait: JSON with links, or with `Accept: image/png` the first image itself."""
    asked = body.format if "format" in body.model_fields_set else None
    media_type = negotiate(http, offers(asked))
    request = generation_request(body, context.manifest, format_of(media_type, asked))
    return await short_image(http, context, request, wait, media_type)


@router.post(
    "/v1/generations", status_code=202, response_model=JobDocument, responses=JOB_RESPONSES | declare(415)
)
async def create_generation(http: Request, context: Ctx, body: GenerationBody) -> Response:
    """Start a generation: 202, `Location` and the job. `Prefer: wait=N` waits for it."""
    return await v1_job(http, context, generation_request(body, context.manifest, body.format))


def generation_request(
    body: GenerationBody, manifest: Manifest, image_format: ImageFormat
) -> GenerateRequest:
    """The job's request: the model's own choices, overridden by what the body sets."""
    if manifest.maskgit is None:
        raise InvalidRequest(f"The model {manifest.name} has no prior: it reconstructs, but cannot generate.")
    chosen = {
        name: getattr(body, name) for name in SamplingParams.model_fields if name in body.model_fields_set
    }
    chosen.setdefault("seed", secrets.randbelow(MAX_SEED + 1))
    return GenerateRequest(
        class_id=resolve_class(body, manifest),
        num_images=body.num_images,
        sampling=manifest.sampling.model_copy(update=chosen),
        format=image_format,
    )


def resolve_class(body: GenerationBody, manifest: Manifest) -> int | None:
    """The class's index; None is unconditional. Raises InvalidRequest when there is no such class."""
    by_id, name, labels = body.class_id, body.class_name, manifest.labels
    if by_id is None and name is None:
        return None
    if not labels:
        raise InvalidRequest(f"The model {manifest.name} has no classes; leave class_id and class_name out.")
    if by_id is not None and by_id >= len(labels):
        raise InvalidRequest(
            f"class_id {by_id} does not exist; allowed are 0 to {len(labels) - 1}, or null for no class."
        )
    if name is None:
        return by_id
    if name not in labels:
        raise InvalidRequest(f"class_name {name!r} does not exist; allowed are {', '.join(labels)}.")
    by_name = labels.index(name)
    if by_id is not None and by_id != by_name:
        raise InvalidRequest(
            f"class_id {by_id} is {labels[by_id]!r}, but class_name says {name!r}; give one of them."
        )
    return by_name
