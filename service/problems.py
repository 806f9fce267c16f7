"""Problems: every error answer is RFC 9457 `application/problem+json`, with a sentence.

| error                              | status                    |
|------------------------------------|---------------------------|
| InvalidRequest, InvalidImage       | 422                       |
| ImageTooLarge                      | 413                       |
| JobNotFound, BlobNotFound          | 404                       |
| IdempotencyConflict                | 422                       |
| QueueFull, TooManyRequests         | 429 with Retry-After      |
| QueueUnavailable                   | 503 with Retry-After      |
| BlobStoreUnavailable               | 503 with Retry-After      |
| DeadlineMissed                     | 409: as the caller wished |
| JobFailed                          | 500, says why the job did |
| anything else                      | 500, says nothing; logged |

On the routes of OpenAI's shape a problem has one member more, `error`, which is what OpenAI's clients read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.client import responses as phrases
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount

from movq_core.errors import (
    BlobNotFound,
    BlobStoreUnavailable,
    DeadlineMissed,
    IdempotencyConflict,
    ImageTooLarge,
    InvalidImage,
    InvalidRequest,
    JobFailed,
    JobNotFound,
    MovqError,
    QueueFull,
    QueueUnavailable,
    TooManyRequests,
)
from service.bodies import InvalidBody, media_type_of

MEDIA_TYPE = "application/problem+json"
OUTAGE_RETRY_S = 5
CLIENT_GONE = 499  # nobody reads it; it is for the log and the metrics
MAX_ERRORS = 20  # a body can have as many as it has values
MAX_NAME = 60
OPENAI_PATHS = ("/v1/images/generations", "/v1/images/edits")
REQUEST_ID_HEADER = "X-Request-Id"
REQUEST_ID_KEY = "movq.request_id"  # in the ASGI scope

_STATUS: tuple[tuple[type[MovqError], int, str], ...] = (  # a subclass stands above its parent
    (ImageTooLarge, 413, "image_too_large"),
    (InvalidImage, 422, "invalid_image"),
    (InvalidRequest, 422, "invalid_request"),
    (BlobNotFound, 404, "not_found"),
    (JobNotFound, 404, "job_not_found"),
    (IdempotencyConflict, 422, "idempotency_conflict"),
    (QueueFull, 429, "queue_full"),
    (TooManyRequests, 429, "too_many_requests"),
    (QueueUnavailable, 503, "queue_unavailable"),
    (BlobStoreUnavailable, 503, "blob_store_unavailable"),
    (DeadlineMissed, 409, "deadline_missed"),
    (JobFailed, 500, "job_failed"),
)
_CODE = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "job_cancelled",
    413: "too_large",
    415: "unsupported_media_type",
    504: "not_finished",
}
_INTERNAL = "Something went wrong on our side; it was logged under this request's id."

log = structlog.get_logger("service")


class FieldProblem(BaseModel):
    """One wrong field: a JSON pointer into the body (or the parameter's name), and what is allowed."""

    pointer: str
    detail: str


class OpenAIError(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None = None
    code: str


class Problem(BaseModel):
    """RFC 9457; `code` is a stable name to branch on, `detail` a sentence for a person.

    `error` stands there on the routes of OpenAI's shape only.
    """

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] | None = None
    error: OpenAIError | None = None


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
    path: str = "",
) -> JSONResponse:
    """The answer that says `detail`; `path` is the request's."""
    body = Problem(
        title=phrases.get(status, "Client Closed Request"),
        status=status,
        code=code,
        detail=detail,
        errors=list(errors) if errors else None,
        error=_openai_error(status, code, detail, errors or ()) if path in OPENAI_PATHS else None,
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def _openai_error(status: int, code: str, detail: str, errors: Sequence[FieldProblem]) -> OpenAIError:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = "server_error" if status >= 500 else kinds.get(status, "invalid_request_error")
    param = errors[0].pointer.removeprefix("/") if errors else None
    return OpenAIError(message=detail, type=kind, param=param, code=code)


class CodedHTTPException(HTTPException):
    """One whose status alone does not tell what it is: `code` does."""

    def __init__(self, status_code: int, code: str, detail: str, headers: Mapping[str, str]) -> None:
        super().__init__(status_code, detail, headers)
        self.code = code


def http_problem(error: HTTPException, path: str = "") -> JSONResponse:
    """The answer to an error that speaks HTTP already."""
    own_code = error.code if isinstance(error, CodedHTTPException) else "error"
    code = _CODE.get(error.status_code, own_code)
    return problem(error.status_code, code, str(error.detail), headers=error.headers, path=path)


def install(app: FastAPI) -> None:
    """Let every error of `app` leave as a problem."""
    app.add_exception_handler(MovqError, _on_movq_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_exception_handler(Exception, _on_bug)


async def _on_movq_error(request: Request, error: Exception) -> JSONResponse:
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            headers = _retry_after(error)
            if status == 503:
                log.warning("a part is away", code=code, cause=repr(error.__cause__))
            return problem(status, code, str(error), headers=headers, path=request.url.path)
    return problem(500, "internal", _INTERNAL, path=request.url.path)


def _retry_after(error: Exception) -> dict[str, str]:
    if isinstance(error, QueueFull | TooManyRequests):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, QueueUnavailable | BlobStoreUnavailable):
        return {"Retry-After": str(OUTAGE_RETRY_S)}
    return {}


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        error = HTTPException(405, error.detail, headers={"Allow": _allowed(request)})
    if error.detail == phrases.get(error.status_code):  # Starlette's own, which says too little
        error = HTTPException(error.status_code, _plain_words(request, error), headers=error.headers)
    return http_problem(error, request.url.path)


def _allowed(request: Request) -> str:
    """All methods of the path: each is a route of its own, and Starlette tells the first one's."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    methods = [
        method
        for method in ("GET", "POST", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(methods) or "GET, HEAD"  # of static files


def _plain_words(request: Request, error: HTTPException) -> str:
    path = request.url.path
    if error.status_code == 404:
        return f"There is nothing at {path}; /docs lists what there is."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{request.method} is not allowed at {path}; it takes {allowed}."
    return str(error.detail)


async def _on_client_gone(request: Request, _error: Exception) -> JSONResponse:
    """In the middle of a body; nobody reads this, and nothing is wrong with us."""
    return http_problem(HTTPException(CLIENT_GONE, "The client went away."), request.url.path)


async def _on_bug(request: Request, _error: Exception) -> JSONResponse:
    """The last resort, outside all middleware of ours; Starlette raises the error again afterwards.

    The server then drops the connection, so the client must not use it again.
    """
    headers = {REQUEST_ID_HEADER: request.scope.get(REQUEST_ID_KEY, ""), "Connection": "close"}
    return problem(500, "internal", _INTERNAL, headers=headers)


async def _on_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if _body_was_not_json(request, found):
        detail = "Send a JSON body with `content-type: application/json`."
        return problem(415, _CODE[415], detail, path=request.url.path)
    known = error.fields if isinstance(error, InvalidBody) else _known_fields(request)
    errors = [_field_problem(item, known) for item in found[:MAX_ERRORS]]
    detail = " ".join(item.detail for item in errors[:3])
    return problem(422, "invalid_request", detail, errors=errors, path=request.url.path)


def _body_was_not_json(request: Request, found: Sequence[Any]) -> bool:
    declared = media_type_of(request)
    is_json = declared == "application/json" or declared.endswith("+json")
    return not is_json and any(tuple(item["loc"]) == ("body",) for item in found)


def _known_fields(request: Request) -> list[str]:
    """Fields of the JSON body that the matched route takes."""
    body_field = getattr(request.scope.get("route"), "body_field", None)
    model = body_field.field_info.annotation if body_field else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _field_problem(item: Any, known: Sequence[str]) -> FieldProblem:
    place, *path = item["loc"]
    if item["type"] == "json_invalid":
        return FieldProblem(pointer="", detail=f"The body is not valid JSON: {item['ctx']['error']}.")
    parts = [str(part)[:MAX_NAME] for part in path]
    name = ".".join(parts) or str(place)
    pointer = _json_pointer(parts) if place == "body" else name
    if item["type"] == "extra_forbidden":
        return FieldProblem(
            pointer=pointer, detail=f"{name} is no field here; allowed are {', '.join(known)}."
        )
    message = item["msg"].removeprefix("Value error, ")
    if not message[1:2].isupper():  # "URL ..." stays
        message = message[:1].lower() + message[1:]
    return FieldProblem(pointer=pointer, detail=f"{name}: {message}{_given(item)}.")


def _json_pointer(parts: Sequence[str]) -> str:
    """RFC 6901."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def _given(item: Any) -> str:
    """What was sent, where it is short enough to help."""
    value = item.get("input")
    if isinstance(value, bool | int | float | str) and len(str(value)) <= 40:
        return f", but was {value!r}" if isinstance(value, str) else f", but was {value}"
    return ""
