"""Images, uploads, codes and previews. A name is the hash of its bytes, so an answer never changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from starlette.convertors import Convertor, register_url_convertor

from service.auth import Owner
from service.context import Context, Ctx
from service.openapi import Responses, declare


class _BlobConvertor(Convertor[str]):
    """What follows the folder in a key: `<hash>.<suffix>`, maybe in an owner's folder."""

    regex = r"(?:[a-z0-9][a-z0-9-]{0,31}/)?[0-9a-f]{64}\.(?:png|webp|jpeg|json)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("blob", _BlobConvertor())

router = APIRouter(prefix="/v1", tags=["blobs"])

Name = Annotated[str, Path(pattern=f"^{_BlobConvertor.regex}$")]

_MEDIA_TYPE = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg", "json": "application/json"}
_POLICY = "default-src 'none'; sandbox"  # should a browser take one for a page


def _content(*suffixes: str) -> Responses:
    content = {_MEDIA_TYPE[suffix]: {"schema": {"type": "string", "format": "binary"}} for suffix in suffixes}
    return {200: {"content": content, "description": "The bytes"}, **declare(401, 404, 422, 503)}


_IMAGE = _content("png", "webp", "jpeg")
_CODES: Responses = declare(401, 404, 422, 503) | {
    200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/CodesDocument"}}}}
}


@router.get("/images/{name:blob}", response_class=Response, responses=_IMAGE)
async def get_image(context: Ctx, owner: Owner, name: Name) -> Response:
    """An image that a job made."""
    return await _blob(context, f"images/{name}", owner)


@router.get("/uploads/{name:blob}", response_class=Response, responses=_IMAGE)
async def get_upload(context: Ctx, owner: Owner, name: Name) -> Response:
    """An uploaded image or mask, as the worker saw it."""
    return await _blob(context, f"uploads/{name}", owner)


@router.get("/previews/{name:blob}", response_class=Response, responses=_IMAGE)
async def get_preview(context: Ctx, owner: Owner, name: Name) -> Response:
    """An image on its way: transparent where its codes are masked."""
    return await _blob(context, f"previews/{name}", owner)


@router.get("/codes/{name:blob}", response_class=Response, responses=_CODES)
async def get_codes(context: Ctx, owner: Owner, name: Name) -> Response:
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
