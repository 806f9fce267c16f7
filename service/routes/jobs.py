"""Jobs: how they stand, what happens to them, and an end to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from sse_starlette import EventSourceResponse

from movq_core.protocol import EventType
from service.answers import document_of, envelope
from service.auth import Owner
from service.context import Ctx
from service.documents import JobDocument, JobList
from service.event_stream import IMAGE, event_stream, has_ended
from service.openapi import JOB_LINKS, Responses, declare
from service.schemas import JobsQuery

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[0-9a-f-]{1,64}$")]
LastEventId = Annotated[
    str | None,
    Header(pattern=r"^\d{1,19}-\d{1,19}$", description="the last event seen: those after it are sent"),
]

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "for Last-Event-ID; an `image` has none"},
        "event": {"enum": [*(item.value for item in EventType), IMAGE]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_STREAM: Responses = {
    200: {
        "description": "`queued`, `started`, `step`, `preview`; then each `image`, and `done` with the job",
        "content": {"text/event-stream": {"schema": _EVENT}},
    },
    204: {"description": "The job is over, and its `done` was seen: there is nothing to wait for"},
}


@router.get("", responses=declare(401, 422, 503))
async def list_jobs(context: Ctx, owner: Owner, query: Annotated[JobsQuery, Query()]) -> JobList:
    """The caller's jobs, newest first; those that are remembered."""
    jobs = await context.jobs.list(owner, query.limit, query.status)
    return JobList(jobs=[document_of(context, job) for job in jobs])


@router.get(
    "/{job_id}",
    response_model=JobDocument,
    responses=declare(401, 404, 422, 503) | {200: {"links": JOB_LINKS}},
)
async def get_job(context: Ctx, owner: Owner, job_id: JobId) -> Response:
    """The job as it stands."""
    return envelope(context, await context.jobs.get(job_id, owner))


@router.delete(
    "/{job_id}",
    response_model=JobDocument,
    responses=declare(401, 404, 422, 503)
    | {202: {"model": JobDocument, "description": "Told to stop; not yet stopped"}},
)
async def cancel_job(context: Ctx, owner: Owner, job_id: JobId) -> Response:
    """Cancel this job alone. Idempotent: a job that is over stays as it is."""
    job = await context.jobs.cancel(job_id, owner)
    return envelope(context, job, status=200 if job.is_final else 202)


@router.get(
    "/{job_id}/events", response_class=EventSourceResponse, responses=declare(401, 404, 422, 503) | _STREAM
)
async def get_job_events(
    context: Ctx, owner: Owner, job_id: JobId, last_event_id: LastEventId = None
) -> Response:
    """Listen to the job until it is over (server-sent events).

    Previews are decoded while somebody does.
    """
    job = await context.jobs.get(job_id, owner)
    if job.is_final and last_event_id is not None and await has_ended(context, job_id, last_event_id):
        return Response(status_code=204)
    return EventSourceResponse(event_stream(context, job_id, owner, last_event_id))
