"""The session: an API key in a cookie, for a browser's images and event streams, which carry no headers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.auth import admit, forget, remember
from service.context import Ctx
from service.openapi import declare
from service.schemas import SessionBody

router = APIRouter(prefix="/v1/session", tags=["session"])


@router.post("", status_code=204, responses=declare(400, 401, 413, 415, 422))
async def create_session(http: Request, context: Ctx, body: SessionBody) -> Response:
    """Keep the key in a cookie that no script can read; where there are no keys, nothing is kept."""
    answer = Response(status_code=204)
    if context.settings.api_keys:
        admit(context, body.key)
        remember(http, answer, body.key)
    return answer


@router.delete("", status_code=204)
async def delete_session() -> Response:
    """Forget the key."""
    answer = Response(status_code=204)
    forget(answer)
    return answer
