"""OpenAI's words for our jobs: a prompt becomes a class, an answer their list of images."""

from __future__ import annotations

import asyncio
import base64

from starlette.exceptions import HTTPException

from movq_core.manifest import Manifest
from movq_core.protocol import Request as JobRequest
from service.answers import short_job
from service.catalog import Bundle
from service.documents import OpenAIImage, OpenAIImages, blob_link
from service.generation import check_prior, edit_request, generation_request, listed, prompted_class
from service.intake import store_edit
from service.job import Job
from service.schemas import (
    EditFields,
    GenerationFields,
    JobChoices,
    OpenAIEdit,
    OpenAIFields,
    OpenAIGeneration,
)
from service.settings import MAX_WAIT_S
from service.submission import Caller, submission_of

VARIATION_STRENGTH = 0.6  # of an edit without a mask, where OpenAI's own says nothing


async def generate_images(caller: Caller, body: OpenAIGeneration) -> OpenAIImages:
    """Wait for the images; raises HTTPException 400 for a prompt that names no class."""
    bundle = _bundle(caller, body)
    fields = GenerationFields.model_validate(_fields(body, bundle.manifest))
    request = generation_request(fields, bundle.manifest, body.output_format, caller.owner)
    return await _answer(caller, bundle, body, request, {})


async def edit_images(caller: Caller, image: bytes, mask: bytes | None, body: OpenAIEdit) -> OpenAIImages:
    """Wait for the edited images; raises HTTPException 400 for a prompt that names no class."""
    bundle = _bundle(caller, body)
    strength = {} if mask is not None else {"strength": VARIATION_STRENGTH}
    fields = EditFields.model_validate(_fields(body, bundle.manifest) | strength)
    image_key, mask_key = await store_edit(caller, image, mask, fields)
    request = edit_request(
        fields, bundle.manifest, body.output_format, caller.owner, image_key=image_key, mask_key=mask_key
    )
    return await _answer(caller, bundle, body, request, {"image": image_key, "mask": mask_key})


def _bundle(caller: Caller, body: OpenAIFields) -> Bundle:
    bundle = caller.context.catalog.choose(body.model)
    check_prior(bundle.manifest)
    return bundle


def _fields(body: OpenAIFields, manifest: Manifest) -> dict[str, object]:
    """The fields of ours that `body` stands for."""
    seed = {} if body.seed is None else {"seed": body.seed}
    return {"class_id": _class_of(body.prompt, manifest), "num_images": body.n, **seed}


def _class_of(prompt: str, manifest: Manifest) -> int | None:
    if not manifest.labels:
        return None  # a model without classes makes what it makes, whatever the prompt
    class_id = prompted_class(prompt, manifest)
    if class_id is None:
        raise HTTPException(
            400,
            "The prompt must name one class of the model, by its name or id, and names none or several: "
            f"{listed(manifest.labels)}.",
        )
    return class_id


async def _answer(
    caller: Caller, bundle: Bundle, body: OpenAIFields, request: JobRequest, blobs: dict[str, str | None]
) -> OpenAIImages:
    asked = body.model_dump(mode="json", exclude_unset=True) | blobs
    submission = submission_of(caller, bundle, JobChoices(), asked)
    job = await short_job(caller, request, submission, MAX_WAIT_S)
    if job.output is None:
        await caller.context.jobs.cancel(job.id, caller.owner)
        raise HTTPException(504, f"The images were not done within {MAX_WAIT_S:.0f} s; try again later.")
    images = [_image(caller, key, body) for key in job.output.image_keys]
    return OpenAIImages(created=_seconds(job), data=list(await asyncio.gather(*images)))


async def _image(caller: Caller, key: str, body: OpenAIFields) -> OpenAIImage:
    if body.response_format == "url":
        base = str(caller.http.base_url).rstrip("/")
        return OpenAIImage(url=base + blob_link(key))
    data = await caller.context.read_blob(key, caller.owner)
    return OpenAIImage(b64_json=base64.b64encode(data).decode())


def _seconds(job: Job) -> int:
    return int(job.created_at.timestamp())
