"""Everything that the client raises on purpose.

MovqError
|-- InvalidRequest      the server says what was wrong and what is allowed; `errors` names the fields
|-- NotFound            no such job, image or model, or none that this key may see
|-- Unauthorized        no key, a wrong one, or one that may not do this
|-- Overloaded          too much at once; come back in `retry_after_s`
|   |-- QueueFull       the server's queue holds as many images as it may
|   `-- RateLimited     this key, or this address, asks for too much
|-- JobFailed           the job came to its end without a result
|-- JobCancelled        somebody cancelled the job
|-- JobTimeout          the job is not done within the time given; it goes on
|-- ServerError         something went wrong on the server's side
`-- ServerUnavailable   nobody answers at this address, or not now
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

UNAVAILABLE = (502, 503, 504)


@dataclass(frozen=True)
class FieldError:
    """One wrong field: where it stands (a JSON pointer, or a parameter's name), and what is allowed."""

    pointer: str
    detail: str


class MovqError(Exception):
    """Root of the tree; `str(error)` is a sentence for a person, `code` a stable name to branch on."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.errors = errors


class InvalidRequest(MovqError):
    """The request asks for something that is not allowed."""


class NotFound(MovqError):
    """No such job, image or model, or none that this key may see."""


class Unauthorized(MovqError):
    """No key, a wrong one, or one that may not do this."""


class Overloaded(MovqError):
    """Too much at once. The client has waited and tried again as long as it may; see `Retries`."""

    retry_after_s: float | None = None


class QueueFull(Overloaded):
    """The server's queue holds as many images as it may."""


class RateLimited(Overloaded):
    """This key, or this address, asks for too much."""


class JobFailed(MovqError):
    """The job came to its end without a result; the sentence says why."""


class JobCancelled(MovqError):
    """Somebody cancelled the job."""


class JobTimeout(MovqError, TimeoutError):
    """The job is not done within the time given. It goes on: `client.job(id)` finds it again."""


class ServerError(MovqError):
    """Something went wrong on the server's side; its log knows more."""


class ServerUnavailable(MovqError):
    """Nobody answers at this address, or not now."""

    retry_after_s: float | None = None


def raise_for(answer: httpx.Response) -> None:
    """Raises what an answer of status 400 and more stands for; its body must have been read."""
    if answer.is_error:
        raise _error_of(answer)


def unreachable(error: httpx.TransportError, url: httpx.URL) -> ServerUnavailable:
    """No answer came, or only a part of one."""
    return ServerUnavailable(f"{url} cannot be reached: {str(error) or type(error).__name__}.")


def _error_of(answer: httpx.Response) -> MovqError:
    problem = _problem(answer)
    error = _kind(answer.status_code, problem.get("code"))(
        problem.get("detail") or f"{answer.url} answered {answer.status_code} {answer.reason_phrase}.",
        code=problem.get("code"),
        status=answer.status_code,
        errors=tuple(FieldError(item["pointer"], item["detail"]) for item in problem.get("errors") or ()),
    )
    if isinstance(error, Overloaded | ServerUnavailable):
        error.retry_after_s = _seconds(answer.headers.get("retry-after"))
    return error


def _problem(answer: httpx.Response) -> Mapping[str, Any]:
    """RFC 9457; empty when somebody else answered, say a proxy."""
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    problem: Mapping[str, Any] = answer.json()
    return problem


def _kind(status: int, code: str | None) -> type[MovqError]:
    if status == 429:
        return QueueFull if code == "queue_full" else RateLimited
    if status in UNAVAILABLE:
        return ServerUnavailable
    if status >= 500:
        return JobFailed if code == "job_failed" else ServerError
    return {401: Unauthorized, 403: Unauthorized, 404: NotFound, 410: NotFound}.get(status, InvalidRequest)


def _seconds(retry_after: str | None) -> float | None:
    """Our servers send seconds; a date, which a proxy may send, is as good as none."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None
