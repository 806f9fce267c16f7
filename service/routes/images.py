"""Images, uploads and codes by name. A name is the hash of its bytes, so an answer never changes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from movq_core.errors import BlobNotFound, InvalidRequest
from service.context import Context, Ctx
from service.problems import declare

router = APIRouter(prefix="/v1", tags=["images"])

_MEDIA_TYPE = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg", "json": "application/json"}
_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@router.get("/images/{name:path}", response_class=Response, responses=declare(404))
async def get_image(context: Ctx, name: str) -> Response:
    """An image that a job made."""
    return await _blob(context, f"images/{name}")


@router.get("/uploads/{name:path}", response_class=Response, responses=declare(404))
async def get_upload(context: Ctx, name: str) -> Response:
    """An uploaded image, as the worker saw it."""
    return await _blob(context, f"uploads/{name}")


@router.get("/codes/{name:path}", response_class=Response, responses=declare(404))
async def get_codes(context: Ctx, name: str) -> Response:
    """A codes document."""
    return await _blob(context, f"codes/{name}")


async def _blob(context: Context, key: str) -> Response:
    try:
        data = await context.read_blob(key)
    except (BlobNotFound, InvalidRequest) as error:
        raise BlobNotFound(f"There is no {key}.") from error
    return Response(data, media_type=_MEDIA_TYPE[key.rpartition(".")[2]], headers=_HEADERS)
