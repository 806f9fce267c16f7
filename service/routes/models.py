"""Models: what is served, and its classes."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from movq_core.params import MAX_STEPS
from service.context import Context, Ctx
from service.problems import declare
from service.schemas import MAX_IMAGES_PER_REQUEST, ClassDocument, ClassList, ModelDocument, ModelList

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(context: Ctx) -> ModelList:
    """The models, with the sampling that suits them and the limits of a request."""
    return ModelList(models=[_document(context)])


@router.get("/{name}/classes", responses=declare(404))
async def list_classes(context: Ctx, name: str) -> ClassList:
    """Names and ids of the classes that the model generates."""
    manifest = context.manifest
    if name != manifest.name:
        raise HTTPException(404, f"There is no model {name!r}; the one served is {manifest.name!r}.")
    classes = [ClassDocument(id=index, name=label) for index, label in enumerate(manifest.labels)]
    return ClassList(model=name, classes=classes)


def _document(context: Context) -> ModelDocument:
    manifest, movq = context.manifest, context.manifest.movq
    return ModelDocument(
        name=manifest.name,
        tasks=list(manifest.tasks),
        image_size=movq.image_size,
        downsampling_factor=movq.downsampling_factor,
        code_channels=movq.code_channels,
        codebook_size=movq.codebook_size,
        num_classes=len(manifest.labels),
        sampling=manifest.sampling,
        limits={
            "num_images": MAX_IMAGES_PER_REQUEST,
            "steps": MAX_STEPS,
            "upload_bytes": context.settings.max_upload_bytes,
            "image_pixels": context.settings.max_image_pixels,
            "whole_pixels": context.settings.max_whole_pixels,
        },
        links={"classes": f"/v1/models/{manifest.name}/classes"},
    )
