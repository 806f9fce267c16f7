"""Images, uploads, codes and previews. A name is the hash of its bytes, so an answer never changes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.auth import Owner
from service.context import Context, Ctx
from service.openapi import Responses, declare

router = APIRouter(prefix="/v1", tags=["blobs"])

_MEDIA_TYPE = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg", "json": "application/json"}
_POLICY = "default-src 'none'; sandbox"  # should a browser take one for a page


def _content(*suffixes: str) -> Responses:
    content = {_MEDIA_TYPE[suffix]: {"schema": {"type": "string", "format": "binary"}} for suffix in suffixes}
    return {200: {"content": content, "description": "The bytes"}, **declare(401, 404)}


_IMAGE = _content("png", "webp", "jpeg")
_CODES: Responses = declare(401, 404) | {
    200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/CodesDocument"}}}}
}


@router.get("/images/{name:path}", response_class=Response, responses=_IMAGE)
async def get_image(context: Ctx, owner: Owner, name: str) -> Response:
    """An image that a job made."""
    return await _blob(context, f"images/{name}", owner)


@router.get("/uploads/{name:path}", response_class=Response, responses=_IMAGE)
async def get_upload(context: Ctx, owner: Owner, name: str) -> Response:
    """An uploaded image or mask, as the worker saw it."""
    return await _blob(context, f"uploads/{name}", owner)


@router.get("/previews/{name:path}", response_class=Response, responses=_IMAGE)
async def get_preview(context: Ctx, owner: Owner, name: str) -> Response:
    """An image on its way: transparent where its codes are masked."""
    return await _blob(context, f"previews/{name}", owner)


@router.get("/codes/{name:path}", response_class=Response, responses=_CODES)
async def get_codes(context: Ctx, owner: Owner, name: str) -> Response:
    """A codes document."""
    return await _blob(context, f"codes/{name}", owner)


async def _blob(context: Context, key: str, owner: str | None) -> Response:
    data = await context.read_blob(key, owner)
    whose = "public" if owner is None else "private"
    headers = {
        "Cache-Control": f"{whose}, max-age=31536000, immutable",
        "Content-Security-Policy": _POLICY,
    }
    return Response(data, media_type=_MEDIA_TYPE[key.rpartition(".")[2]], headers=headers)
