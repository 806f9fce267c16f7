"""Documents: the JSON that callers get."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.protocol import (
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    Fidelity,
    GenerateRequest,
    JobKind,
    Priority,
    ReconstructRequest,
    Request,
)
from service.job import Job, Status


class JobTimings(BaseModel):
    """Seconds. `queued_s`: accepted -> a worker took it; the next three inside the worker."""

    queued_s: float | None = None
    waited_s: float | None = None
    ran_s: float | None = None
    encoded_s: float | None = None
    total_s: float | None = None


class JobDocument(BaseModel):
    """The one envelope of every job.

    `position`: 1 is next, null once a worker has it. `progress`: 0 to 1. `request`: what to send again to get
    the same. `links`: `self`, `events`; `image`, `mask` (what went in); `codes`.
    """

    id: str
    kind: JobKind
    status: Status
    model: str
    priority: Priority
    position: int | None
    progress: float | None
    estimated_wait_s: float | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime | None
    request: dict[str, Any]
    seeds: list[int]
    images: list[str]
    height: int | None
    width: int | None
    fidelity: Fidelity | None
    error: str | None
    timings: JobTimings
    links: dict[str, str]


class JobList(BaseModel):
    """The caller's jobs, newest first."""

    jobs: list[JobDocument]


class ModelDocument(BaseModel):
    """A model that is served; one without a prior can neither generate nor edit."""

    name: str
    tasks: list[JobKind]
    image_size: int
    downsampling_factor: int
    code_channels: int
    codebook_size: int
    num_classes: int
    sampling: SamplingParams
    limits: dict[str, int]
    links: dict[str, str]


class OpenAIModel(BaseModel):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "movq"


class ModelList(BaseModel):
    """The first model is the default. `object` and `data` say the same in OpenAI's shape."""

    models: list[ModelDocument]
    object: Literal["list"] = "list"
    data: list[OpenAIModel]


class ClassDocument(BaseModel):
    """`example`: a link to a picture of the class, where the bundle has one."""

    id: int
    name: str
    example: str | None


class ClassList(BaseModel):
    model: str
    classes: list[ClassDocument]


class OpenAIImage(BaseModel):
    """One of the two, as `response_format` asked."""

    url: str | None = None
    b64_json: str | None = None


class OpenAIImages(BaseModel):
    """OpenAI's answer to both of its image routes."""

    created: int = Field(description="seconds since 1970")
    data: list[OpenAIImage]


def blob_link(key: str) -> str:
    """Where the bytes under `key` are read: the folder in the key chooses the resource."""
    return f"/v1/{key}"


def job_link(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


def job_document(job: Job, manifest: Manifest | None) -> JobDocument:
    """The envelope of `job` as it stands; `manifest` is its model's, None when that is served no more."""
    output = job.output
    return JobDocument(
        id=job.id,
        kind=job.kind,
        status=job.status,
        model=job.model,
        priority=job.priority,
        position=job.position,
        progress=job.progress,
        estimated_wait_s=job.estimated_wait_s,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        deadline_at=job.deadline_at,
        request=_request_document(job, manifest),
        seeds=output.seeds if output else [],
        images=[blob_link(key) for key in output.image_keys] if output else [],
        height=output.height if output else None,
        width=output.width if output else None,
        fidelity=output.fidelity if output else None,
        error=job.error,
        timings=_timings(job),
        links=_links(job),
    )


def _links(job: Job) -> dict[str, str]:
    links = {"self": job_link(job.id), "events": f"{job_link(job.id)}/events"}
    for name, key in _blobs_in(job.request).items():
        links[name] = blob_link(key)
    if job.output and job.output.codes_key:
        links["codes"] = blob_link(job.output.codes_key)
    return links


def _blobs_in(request: Request) -> dict[str, str]:
    """Keys of what went in, by what it is."""
    match request:
        case EditRequest(mask_key=str(mask_key)):
            return {"image": request.image_key, "mask": mask_key}
        case EditRequest() | ReconstructRequest() | EncodeRequest():
            return {"image": request.image_key}
        case DecodeRequest():
            return {"codes": request.codes_key}
        case GenerateRequest():
            return {}


def _request_document(job: Job, manifest: Manifest | None) -> dict[str, Any]:
    """What to send again to get the same; blobs by their links."""
    request = job.request
    hidden = {"version", "owner", "kind", "sampling", "image_key", "mask_key", "codes_key"}
    said = request.model_dump(mode="json", exclude=hidden)
    if isinstance(request, GenerateRequest | EditRequest):
        said |= {"class_name": _class_name(request.class_id, manifest)}
        said |= request.sampling.model_dump(mode="json")
    blobs = {name: blob_link(key) for name, key in _blobs_in(request).items()}
    return {"model": job.model, **blobs, **said}


def _class_name(class_id: int | None, manifest: Manifest | None) -> str | None:
    if manifest is None or class_id is None or class_id >= len(manifest.labels):
        return None
    return manifest.labels[class_id]


def _timings(job: Job) -> JobTimings:
    inside = job.output.timings.model_dump() if job.output else {}
    return JobTimings(
        queued_s=_between(job.created_at, job.started_at),
        total_s=_between(job.created_at, job.finished_at),
        **inside,
    )


def _between(start: datetime, end: datetime | None) -> float | None:
    return round((end - start).total_seconds(), 4) if end else None
