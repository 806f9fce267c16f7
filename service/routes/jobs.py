"""Jobs: how they stand, and an end to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from service.answers import envelope
from service.context import Ctx
from service.problems import declare
from service.schemas import JobDocument

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

JobId = Annotated[str, Path(pattern=r"^[0-9a-f-]{1,64}$")]


@router.get("/{job_id}", response_model=JobDocument, responses=declare(404, 422, 503))
async def get_job(context: Ctx, job_id: JobId) -> Response:
    """The job as it stands."""
    return envelope(context, await context.jobs.get(job_id))


@router.delete(
    "/{job_id}",
    response_model=JobDocument,
    responses=declare(404, 422, 503)
    | {202: {"model": JobDocument, "description": "Told to stop; not yet stopped"}},
)
async def cancel_job(context: Ctx, job_id: JobId) -> Response:
    """Cancel this job alone. Idempotent: a job that is over stays as it is."""
    job = await context.jobs.cancel(job_id)
    return envelope(context, job, status=200 if job.is_final else 202)
