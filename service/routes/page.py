"""The page: static files, and a policy under which nothing from elsewhere can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).parent.parent / "web"
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
_FRESH = {"Cache-Control": "no-cache"}  # kept, and asked for again: page and modules are of one version

router = APIRouter()


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The playground."""
    return FileResponse(WEB / "index.html", headers=_FRESH | {"Content-Security-Policy": _POLICY})


class _PageFiles(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_FRESH)
        return response


def static_files() -> StaticFiles:
    """What the page loads; mounted at `/static`."""
    return _PageFiles(directory=WEB)
