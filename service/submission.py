"""Submission: how a caller's request becomes a job."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any

import structlog
from fastapi import Depends, Header, Request

from movq_core.errors import (
    IdempotencyConflict,
    InvalidRequest,
    MovqError,
    QueueFull,
    QueueUnavailable,
    TooManyRequests,
)
from movq_core.protocol import Request as JobRequest
from movq_core.protocol import queue_name
from movq_core.tracing import Span, SpanKind
from service.auth import Owner
from service.catalog import Bundle
from service.context import Context, Ctx
from service.job import Idempotency, Submission, Submitted, images_of
from service.problems import REQUEST_ID_KEY
from service.schemas import JobChoices

_REFUSED: tuple[tuple[type[MovqError], str], ...] = (
    (QueueFull, "queue_full"),
    (TooManyRequests, "too_many_requests"),
    (IdempotencyConflict, "idempotency_conflict"),
    (QueueUnavailable, "queue_unavailable"),
)

log = structlog.get_logger("movq.service")

_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})")


@dataclass(frozen=True)
class Caller:
    """Who wants a job made: `owner` is None where there are no keys."""

    http: Request
    context: Context
    owner: str | None
    idempotency_key: str | None = None
    prefer: str = ""

    @property
    def preferred_wait_s(self) -> float | None:
        """N of `Prefer: wait=N`."""
        preferred = _PREFER_WAIT.search(self.prefer)
        return float(preferred.group(1)) if preferred else None

    def model(self, choices: JobChoices) -> Bundle:
        """The bundle that was asked for; raises InvalidRequest."""
        return self.context.catalog.choose(choices.model)


async def short_caller(
    http: Request,
    context: Ctx,
    owner: Owner,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[\x21-\x7e]{1,255}$",
            description="the same key and request again: the same job, for a day",
        ),
    ] = None,
) -> Caller:
    """A caller who is known, and has not asked for too much. Raises TooManyRequests."""
    if context.rate_limit is not None:
        address = http.client.host if http.client else "unknown"
        await _counted(context, owner or address)
    return Caller(http, context, owner, idempotency_key)


async def v1_caller(
    caller: Annotated[Caller, Depends(short_caller)],
    prefer: Annotated[
        str, Header(max_length=200, description="`wait=N`: answer once the job is over, N seconds at most")
    ] = "",
) -> Caller:
    return Caller(caller.http, caller.context, caller.owner, caller.idempotency_key, prefer)


ShortCaller = Annotated[Caller, Depends(short_caller)]
V1Caller = Annotated[Caller, Depends(v1_caller)]


async def _counted(context: Context, who: str) -> None:
    assert context.rate_limit is not None
    try:
        await context.rate_limit.count(who)
    except (TooManyRequests, QueueUnavailable) as error:
        _count_refusal(context, error)
        raise


def submission_of(
    caller: Caller, bundle: Bundle, choices: JobChoices, asked: dict[str, Any], *, watched: bool = False
) -> Submission:
    """How the request is to be treated. `asked`: all that the caller said; by it a repeated key is judged."""
    return Submission(
        model=bundle.name,
        priority=choices.priority,
        deadline_s=choices.deadline_s,
        webhook_url=_webhook_url(caller, choices),
        idempotency=_idempotency(caller, asked),
        watched=watched,
        max_open=caller.context.settings.max_open_jobs,
        request_id=caller.http.scope[REQUEST_ID_KEY],
    )


def _webhook_url(caller: Caller, choices: JobChoices) -> str | None:
    if choices.webhook_url is None:
        return None
    if not caller.context.settings.webhook_secret:
        raise InvalidRequest(
            "This server sends no webhooks: it has no MOVQ_WEBHOOK_SECRET to sign them with."
        )
    return str(choices.webhook_url)


def asked_in(*parts: JobChoices | dict[str, Any]) -> dict[str, Any]:
    """What was said, without what was left out: a drawn seed would make of each request another."""
    said: dict[str, Any] = {}
    for part in parts:
        said |= part if isinstance(part, dict) else part.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in said.items() if name not in ("wait", "watched")}


def _idempotency(caller: Caller, asked: dict[str, Any]) -> Idempotency | None:
    if caller.idempotency_key is None:
        return None
    words = json.dumps([caller.http.scope["route"].path, asked], sort_keys=True)
    return Idempotency(caller.idempotency_key, hashlib.sha256(words.encode()).hexdigest())


async def submit(caller: Caller, request: JobRequest, submission: Submission) -> Submitted:
    """Put `request` on its queue; count and tell what became of it."""
    context = caller.context
    with _enqueuing(context, submission) as span:
        try:
            submitted = await context.jobs.submit(request, replace(submission, traceparent=span.traceparent))
        except (QueueFull, TooManyRequests, IdempotencyConflict, QueueUnavailable) as error:
            _count_refusal(context, error)
            raise
        span.set({"messaging.message.id": submitted.job.id})
    structlog.contextvars.bind_contextvars(job_id=submitted.job.id)  # for the request's own line, too
    if submitted.is_new:
        context.metrics.submitted.labels(
            submission.model, request.kind.value, submission.priority.value
        ).inc()
        log.info("a job was submitted", **_told_of(request, submission))
    return submitted


def _enqueuing(context: Context, submission: Submission) -> AbstractContextManager[Span]:
    """The span with which the job's own go on, in the worker and wherever it is told of."""
    queue = queue_name(submission.model, submission.priority)
    attributes = {
        "messaging.system": "rq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "enqueue",
        "messaging.destination.name": queue,
    }
    return context.tracing.span(f"enqueue {queue}", SpanKind.PRODUCER, attributes=attributes)


def _told_of(request: JobRequest, submission: Submission) -> dict[str, Any]:
    return {
        "kind": request.kind.value,
        "model": submission.model,
        "priority": submission.priority.value,
        "images": images_of(request),
        "owner": request.owner,
    }


def _count_refusal(context: Context, error: MovqError) -> None:
    reason = next(reason for kind, reason in _REFUSED if isinstance(error, kind))
    context.metrics.rejected.labels(reason).inc()
