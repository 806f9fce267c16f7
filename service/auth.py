"""Auth: whose request is it? Nobody's where there are no keys, and then all is open."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from service.context import Context, Ctx
from service.keys import owner_of_secret

COOKIE = "movq_key"
COOKIE_AGE_S = 30 * 24 * 3600

_SAFE = ("GET", "HEAD", "OPTIONS")  # they change nothing

_BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="`Authorization: Bearer KEY`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="header")
_COOKIE = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description="set by `POST /v1/session`, for browsers",
)


def authenticate(
    http: Request,
    context: Ctx,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
    cookie: Annotated[str | None, Depends(_COOKIE)],
) -> str | None:
    """The owner: the name of the request's key; None where there are no keys.

    Raises HTTPException 401, or 403. A key in a header outranks the cookie's.
    """
    if not context.settings.api_keys:
        return None
    told = (bearer.credentials if bearer else None) or header
    if not told and cookie and http.method not in _SAFE and _is_from_elsewhere(http):
        raise HTTPException(
            403, "Another page's browser may not act here by its cookie; send the key itself."
        )
    return admit(context, told or cookie)


def _is_from_elsewhere(http: Request) -> bool:
    """Whether a page of another origin makes the browser ask.

    The cookie is Strict, which holds other sites off; this is for the neighbours of our own: another port,
    another name under the same domain.
    """
    if site := http.headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = http.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != http.headers.get("host")


Owner = Annotated[str | None, Depends(authenticate)]


def admit(context: Context, secret: str | None) -> str:
    """Name of the key with this secret; raises HTTPException 401."""
    if not secret:
        raise _unauthorized("This needs an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.")
    owner = owner_of_secret(secret, context.settings.api_keys)
    if owner is None:
        raise _unauthorized("There is no such API key.")
    return owner


def _unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": 'Bearer realm="movq"'})


def remember(request: Request, response: Response, secret: str) -> None:
    """Let a browser send the key by itself, where no script can read it and no other site can use it."""
    secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE, secret, max_age=COOKIE_AGE_S, httponly=True, secure=secure, samesite="strict", path="/"
    )


def forget(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
