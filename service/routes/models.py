"""Models: what is served, its classes, and a picture of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException

from movq_core.params import MAX_STEPS
from service.auth import Owner
from service.catalog import Bundle
from service.context import Context, Ctx
from service.documents import ClassDocument, ClassList, ModelDocument, ModelList, OpenAIModel
from service.openapi import Responses, declare
from service.schemas import MAX_IMAGES_PER_REQUEST
from service.settings import Settings

router = APIRouter(prefix="/v1/models", tags=["models"])

_EXAMPLE: Responses = declare(401, 404, 422) | {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The picture is the one whose `ETag` was named in `If-None-Match`"},
}


@router.get("", responses=declare(401))
async def list_models(context: Ctx, _: Owner) -> ModelList:
    """The models, the default first, with the sampling that suits them and the limits of a request."""
    bundles = context.catalog.bundles
    return ModelList(
        models=[_document(bundle, context.settings) for bundle in bundles],
        data=[OpenAIModel(id=bundle.name, created=bundle.created) for bundle in bundles],
    )


@router.get("/{name}/classes", responses=declare(401, 404, 422))
async def list_classes(context: Ctx, _: Owner, name: str) -> ClassList:
    """Names and ids of the classes that the model generates, with a picture of each where there is one."""
    bundle = _find(context, name)
    classes = [
        ClassDocument(
            id=index,
            name=label,
            example=f"/v1/models/{bundle.name}/examples/{index}" if bundle.example(index) else None,
        )
        for index, label in enumerate(bundle.manifest.labels)
    ]
    return ClassList(model=bundle.name, classes=classes)


@router.get("/{name}/examples/{class_id}", response_class=FileResponse, responses=_EXAMPLE)
async def get_example(
    context: Ctx,
    _: Owner,
    name: str,
    class_id: Annotated[int, Path(ge=0, le=2**31)],
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A picture that shows the class."""
    path = _find(context, name).example(class_id)
    if path is None:
        raise HTTPException(404, f"The model {name} has no example of a class {class_id}.")
    answer = FileResponse(path, media_type="image/png", stat_result=path.stat())
    answer.headers["Cache-Control"] = "no-cache"  # asked again each time, and answered by its ETag
    if if_none_match is not None and answer.headers["etag"] in if_none_match:
        return Response(status_code=304, headers={"ETag": answer.headers["etag"]})
    return answer


def _find(context: Context, name: str) -> Bundle:
    if bundle := context.catalog.find(name):
        return bundle
    names = ", ".join(bundle.name for bundle in context.catalog.bundles)
    raise HTTPException(404, f"There is no model {name[:64]!r}; served are {names}.")


def _document(bundle: Bundle, settings: Settings) -> ModelDocument:
    manifest, movq = bundle.manifest, bundle.manifest.movq
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
            "upload_bytes": settings.max_upload_bytes,
            "image_pixels": settings.max_image_pixels,
            "whole_pixels": settings.max_whole_pixels,
        },
        links={"classes": f"/v1/models/{manifest.name}/classes"},
    )
