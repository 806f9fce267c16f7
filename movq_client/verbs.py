"""Verbs: what the client does, as conversations with a server, whoever holds them.

Each is a generator: it yields a `Call` and is sent the answer, or a `Pause` and is sent nothing, and returns
what the caller wanted. `Client` holds it by blocking, `AsyncClient` by awaiting; neither knows what is said.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from movq_client import calls
from movq_client.calls import Call, JobCall
from movq_client.documents import (
    ClassDocument,
    ClassList,
    Codes,
    JobDocument,
    JobList,
    ModelDocument,
    ModelList,
)
from movq_client.errors import InvalidRequest, JobCancelled, JobFailed, JobTimeout
from movq_client.events import Event, Listening, Message
from movq_client.images import Image, Reconstruction, opened

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


@dataclass(frozen=True)
class Pause:
    """Let some time go by."""

    seconds: float


T = TypeVar("T")
Verb = Generator[Call | Pause, Any, T]  # sent: the httpx.Response to a Call, read; None after a Pause


def start(call: JobCall[Any]) -> Verb[JobDocument]:
    """A job, as it is accepted."""
    return JobDocument.model_validate((yield call).json())


def perform(call: JobCall[T], timeout_s: float) -> Verb[T]:
    """Start a job, wait for it, and fetch what it made; raises JobFailed, JobCancelled or JobTimeout."""
    deadline = time.monotonic() + timeout_s
    job = yield from start(call.waiting(timeout_s))
    job = yield from await_end(job, max(0.0, deadline - time.monotonic()))
    made: T = yield from result(job)
    return made


def await_end(job: JobDocument, timeout_s: float) -> Verb[JobDocument]:
    """`job` when it is over, however it ended; raises JobTimeout."""
    deadline, pause_s = time.monotonic() + timeout_s, FIRST_PAUSE_S
    while not job.is_final:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise JobTimeout(f"The job {job.id} is not done in the time given; it goes on.")
        yield Pause(min(pause_s, left_s))
        pause_s = min(LONGEST_PAUSE_S, pause_s * 1.5)
        job = yield from look(job.id)
    return job


def look(job_id: str) -> Verb[JobDocument]:
    return JobDocument.model_validate((yield calls.job(job_id)).json())


def cancel(job_id: str) -> Verb[JobDocument]:
    return JobDocument.model_validate((yield calls.cancellation(job_id)).json())


def list_jobs(limit: int, status: str | None) -> Verb[list[JobDocument]]:
    return JobList.model_validate((yield calls.jobs(limit, status)).json()).jobs


def list_models() -> Verb[list[ModelDocument]]:
    return ModelList.model_validate((yield calls.models()).json()).models


def list_classes(model: str | None) -> Verb[list[ClassDocument]]:
    """Of the server's first model when none is named."""
    if model is None:
        model = (yield from list_models())[0].name
    return ClassList.model_validate((yield calls.classes(model)).json()).classes


def result(job: JobDocument) -> Verb[Any]:
    """What a job that is over made: images, a reconstruction, codes; raises JobFailed or JobCancelled."""
    raise_for(job)
    if job.kind == "encode":
        return Codes.model_validate_json((yield calls.blob(job.links["codes"])).content)
    if job.kind in ("generate", "edit"):
        return (yield from images(job))
    if job.kind == "reconstruct":
        return (yield from _reconstruction(job))
    return (yield from image(job.images[0]))


def raise_for(job: JobDocument) -> None:
    """Raises JobFailed or JobCancelled unless it succeeded."""
    if job.status == "failed":
        raise JobFailed(f"{job.error} (job {job.id})", code="job_failed")
    if job.status == "cancelled":
        raise JobCancelled(f"The job {job.id} was cancelled.", code="job_cancelled")


def images(job: JobDocument) -> Verb[list[Image]]:
    made = []
    for link, seed in zip(job.images, job.seeds, strict=True):
        made.append((yield from image(link, seed)))
    return made


def image(link: str, seed: int | None = None) -> Verb[Image]:
    answer = yield calls.blob(link)
    return Image(opened(answer.content), answer.content, str(answer.url), seed)


def _reconstruction(job: JobDocument) -> Verb[Reconstruction]:
    made = yield from image(job.images[0])
    if job.fidelity is None:
        raise InvalidRequest(f"The job {job.id} has no figures: is the server older than this client?")
    return Reconstruction(made.image, made.data, made.url, **job.fidelity.model_dump())


def event(listening: Listening, message: Message) -> Verb[Event]:
    """What a message says, with the preview or the images that it links to."""
    preview, made = None, None
    if listening.previews and message.preview_link:
        preview = opened((yield calls.blob(message.preview_link)).content).convert("RGBA")
    if (job := message.job) and job.status == "succeeded" and job.kind in ("generate", "edit"):
        made = yield from images(job)
    return listening.event(message, preview, made)
