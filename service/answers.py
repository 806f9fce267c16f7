"""Answers: what becomes of a submission, as HTTP says it.

The short face waits and gives the thing itself; `/v1` gives the job's envelope.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from movq_core.errors import DeadlineMissed, JobFailed
from movq_core.protocol import Fidelity, ImageFormat
from movq_core.protocol import Request as JobRequest
from service.context import Context
from service.documents import JobDocument, job_document, job_link
from service.job import Job, Status, Submission
from service.problems import CLIENT_GONE
from service.settings import MAX_WAIT_S
from service.submission import Caller, submit

JSON = "application/json"
LISTEN_S = 1.0  # how often a waiting request looks whether its client is still there


def offers(image_format: ImageFormat | None) -> Sequence[str]:
    """Media types of a route that gives images: JSON first, then the asked format or all of them."""
    formats = [image_format] if image_format else list(ImageFormat)
    return [JSON, *(item.media_type for item in formats)]


def format_of(media_type: str, default: ImageFormat | None) -> ImageFormat:
    """The format that Accept chose; `default`, else PNG, where it chose JSON."""
    if media_type == JSON:
        return default or ImageFormat.PNG
    return ImageFormat(media_type.removeprefix("image/"))


async def settle(caller: Caller, job: Job, wait_s: float) -> Job:
    """Wait for `job`; one whose client has gone is cancelled, for nobody knows its id.

    Raises HTTPException 499 then. Who gave an Idempotency-Key can ask again, and finds the job.
    """
    jobs, deadline = caller.context.jobs, time.monotonic() + wait_s
    while not job.is_final and (left_s := deadline - time.monotonic()) > 0:
        job = await jobs.wait(job, min(LISTEN_S, left_s))
        if not job.is_final and await caller.http.is_disconnected():
            if caller.idempotency_key is None:
                await jobs.cancel(job.id, caller.owner)
            raise HTTPException(CLIENT_GONE, "The client went away.")
    return job


async def short_job(caller: Caller, request: JobRequest, submission: Submission, wait: float | None) -> Job:
    """Submit and wait; raises JobFailed, DeadlineMissed, or HTTPException 409 when somebody cancelled it."""
    wait_s = caller.context.settings.wait_s if wait is None else wait
    submitted = await submit(caller, request, submission)
    job = await settle(caller, submitted.job, wait_s)
    if job.status is Status.FAILED:
        kind = DeadlineMissed if job.missed_deadline else JobFailed
        raise kind(f"{job.error} (job {job.id})")
    if job.status is Status.CANCELLED:
        raise HTTPException(409, f"The job {job.id} was cancelled while you waited.")
    return job


async def short_image(
    caller: Caller, request: JobRequest, submission: Submission, wait: float | None, media_type: str
) -> Response:
    """The first image itself, the envelope, or 202 when the wait was too short."""
    job = await short_job(caller, request, submission, wait)
    if job.output is None:
        return accepted(caller.context, job)
    if media_type == JSON:
        return envelope(caller.context, job)
    data = await caller.context.read_blob(job.output.image_keys[0], caller.owner)
    return Response(data, media_type=media_type, headers=_image_headers(job))


async def v1_job(caller: Caller, request: JobRequest, submission: Submission) -> Response:
    """202 and the envelope at once; 200 for a job that is over, waited for with `Prefer: wait=N`."""
    submitted = await submit(caller, request, submission)
    job, wait_s = submitted.job, caller.preferred_wait_s
    if wait_s is not None:
        job = await caller.context.jobs.wait(job, min(MAX_WAIT_S, wait_s))
    answer = envelope(caller.context, job) if job.is_final else accepted(caller.context, job)
    answer.headers["Location"] = job_link(job.id)
    if wait_s is not None:
        answer.headers["Preference-Applied"] = f"wait={wait_s:.0f}"
    if not submitted.is_new:
        answer.headers["Idempotency-Replayed"] = "true"
    return answer


def document_of(context: Context, job: Job) -> JobDocument:
    bundle = context.catalog.find(job.model)
    return job_document(job, bundle.manifest if bundle else None)


def envelope(context: Context, job: Job, status: int = 200) -> JSONResponse:
    """The job document, never cached: it changes."""
    document = document_of(context, job)
    headers = {"Cache-Control": "no-store", "X-Movq-Job-Id": job.id, "Vary": "Accept"}
    return JSONResponse(document.model_dump(mode="json"), status_code=status, headers=headers)


def accepted(context: Context, job: Job) -> JSONResponse:
    """202: the job goes on, and `Location` says where to ask."""
    answer = envelope(context, job, status=202)
    answer.headers["Location"] = job_link(job.id)
    return answer


def _image_headers(job: Job) -> dict[str, str]:
    headers = {"X-Movq-Job-Id": job.id, "Vary": "Accept", "Cache-Control": "no-store"}
    output = job.output
    if output and output.seeds:
        headers["X-Movq-Seed"] = str(output.seeds[0])
    if output and output.fidelity:
        headers |= _fidelity_headers(output.fidelity)
    return headers


def _fidelity_headers(fidelity: Fidelity) -> dict[str, str]:
    """`inf` stands for equal images; SSIM is left out where it is not defined."""
    headers = {
        "X-Movq-Psnr-Db": "inf" if fidelity.psnr_db is None else f"{fidelity.psnr_db:.3f}",
        "X-Movq-Codes-Bytes": str(fidelity.codes_bytes),
        "X-Movq-Bits-Per-Pixel": f"{fidelity.bits_per_pixel:.4f}",
    }
    if fidelity.ssim is not None:
        headers["X-Movq-Ssim"] = f"{fidelity.ssim:.4f}"
    return headers
