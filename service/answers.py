"""Answers: how a request becomes a job, and a job an HTTP answer.

The short face waits and gives the thing itself; `/v1` gives the job's envelope.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from movq_core.errors import JobFailed, QueueFull, QueueUnavailable
from movq_core.protocol import Fidelity, ImageFormat
from movq_core.protocol import Request as JobRequest
from service.context import Context
from service.job import Job, Status, Submission
from service.problems import declare
from service.schemas import JobDocument, job_document, job_link
from service.settings import MAX_WAIT_S

JSON = "application/json"
LISTEN_S = 1.0  # how often a waiting request looks whether its client is still there
CLIENT_GONE = 499  # nobody reads it; it is for the log and the metrics
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})")

Wait = Annotated[
    float | None,
    Query(ge=0, le=MAX_WAIT_S, description="seconds to wait for the result before answering 202"),
]

JOB_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": JobDocument, "description": "Accepted; `Location` names the job"},
    **declare(400, 413, 422, 429, 500, 503),
}
IMAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {item.media_type: {} for item in ImageFormat}},
    **JOB_RESPONSES,
    **declare(406, 409),
}


def offers(image_format: ImageFormat | None) -> list[str]:
    """Media types of a route that gives images: JSON first, then the asked format or all of them."""
    formats = [image_format] if image_format else list(ImageFormat)
    return [JSON, *(item.media_type for item in formats)]


def format_of(media_type: str, default: ImageFormat | None) -> ImageFormat:
    """The format that Accept chose; `default`, else PNG, where it chose JSON."""
    if media_type == JSON:
        return default or ImageFormat.PNG
    return ImageFormat(media_type.removeprefix("image/"))


async def submit(context: Context, request: JobRequest) -> Job:
    """Put `request` on the queue, and count what became of it."""
    try:
        submitted = await context.jobs.submit(request, Submission(context.manifest.name))
    except QueueFull:
        context.metrics.rejected.labels("queue_full").inc()
        raise
    except QueueUnavailable:
        context.metrics.rejected.labels("queue_unavailable").inc()
        raise
    context.metrics.submitted.labels(request.kind.value).inc()
    return submitted.job


async def settle(http: Request, context: Context, job: Job, wait_s: float) -> Job:
    """Wait for `job`; one whose client has gone is cancelled, for nobody knows its id.

    Raises HTTPException 499 then.
    """
    deadline = time.monotonic() + wait_s
    while not job.is_final and (left_s := deadline - time.monotonic()) > 0:
        job = await context.jobs.wait(job, min(LISTEN_S, left_s))
        if not job.is_final and await http.is_disconnected():
            await context.jobs.cancel(job.id)
            raise HTTPException(CLIENT_GONE, "The client went away.")
    return job


async def short_job(http: Request, context: Context, request: JobRequest, wait: float | None) -> Job:
    """Submit and wait; raises JobFailed, or HTTPException 409 when somebody cancelled the job."""
    wait_s = context.settings.wait_s if wait is None else wait
    job = await settle(http, context, await submit(context, request), wait_s)
    if job.status is Status.FAILED:
        raise JobFailed(f"{job.error} (job {job.id})")
    if job.status is Status.CANCELLED:
        raise HTTPException(409, f"The job {job.id} was cancelled while you waited.")
    return job


async def short_image(
    http: Request, context: Context, request: JobRequest, wait: float | None, media_type: str
) -> Response:
    """The first image itself, the envelope, or 202 when the wait was too short."""
    job = await short_job(http, context, request, wait)
    if job.output is None:
        return accepted(context, job)
    if media_type == JSON:
        return envelope(context, job)
    data = await context.read_blob(job.output.image_keys[0])
    return Response(data, media_type=media_type, headers=_image_headers(job))


async def v1_job(http: Request, context: Context, request: JobRequest) -> Response:
    """202 and the envelope at once; with `Prefer: wait=N`, 200 once the job is final."""
    job = await submit(context, request)
    preferred = _PREFER_WAIT.search(http.headers.get("prefer", ""))
    if preferred is None:
        return accepted(context, job)
    job = await context.jobs.wait(job, min(MAX_WAIT_S, float(preferred.group(1))))
    answer = envelope(context, job) if job.is_final else accepted(context, job)
    answer.headers["Preference-Applied"] = f"wait={preferred.group(1)}"
    answer.headers["Location"] = job_link(job.id)
    return answer


def envelope(context: Context, job: Job, status: int = 200) -> JSONResponse:
    """The job document, never cached: it changes."""
    document = job_document(job, context.manifest)
    headers = {"Cache-Control": "no-store", "X-Movq-Job-Id": job.id, "Vary": "Accept"}
    return JSONResponse(document.model_dump(mode="json"), status_code=status, headers=headers)


def accepted(context: Context, job: Job) -> JSONResponse:
    """202: the job goes on, and `Location` says where to ask."""
    answer = envelope(context, job, status=202)
    answer.headers["Location"] = job_link(job.id)
    return answer


def _image_headers(job: Job) -> dict[str, str]:
    headers = {"X-Movq-Job-Id": job.id, "X-Content-Type-Options": "nosniff", "Vary": "Accept"}
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


def schema_of_upload() -> dict[str, Any]:
    """OpenAPI's requestBody of a route that takes an image, as a form field or as the raw body."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "string", "format": "binary"}},
    }
    raw: Sequence[str] = [*(item.media_type for item in ImageFormat), "application/octet-stream"]
    content = {"multipart/form-data": {"schema": form}, **dict.fromkeys(raw, binary)}
    return {"requestBody": {"required": True, "content": content}}
