"""OpenAI's image routes: the prompt names a class. For front ends that speak to OpenAI already."""

from __future__ import annotations

from fastapi import APIRouter

from service.bodies import read_fields, read_file
from service.documents import OpenAIImages
from service.intake import FIELD, MASK, form_of, required_image
from service.openai_images import edit_images, generate_images
from service.openapi import REFUSED, declare, edit_body
from service.schemas import OpenAIEdit, OpenAIGeneration
from service.submission import ShortCaller

router = APIRouter(prefix="/v1/images", tags=["openai"])

_REFUSED = {**REFUSED, **declare(409, 504)}


@router.post("/generations", responses=_REFUSED, response_model_exclude_none=True)
async def create_openai_generation(caller: ShortCaller, body: OpenAIGeneration) -> OpenAIImages:
    """Images of the class that the prompt names: by its name or id, alone or as words of the prompt."""
    return await generate_images(caller, body)


@router.post(
    "/edits", responses=_REFUSED, response_model_exclude_none=True, openapi_extra=edit_body(OpenAIEdit)
)
async def create_openai_edit(caller: ShortCaller) -> OpenAIImages:
    """The image with its mask's transparent part made anew; without a mask, a variation of it."""
    max_bytes = caller.context.settings.max_upload_bytes
    async with form_of(caller.http) as form:
        fields = read_fields(form, OpenAIEdit, (FIELD, MASK))
        image, mask = await required_image(form, max_bytes), await read_file(form, MASK, max_bytes)
    return await edit_images(caller, image, mask, fields)
