"""Schemas: the JSON that callers send and get."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from movq_core.protocol import (
    DecodeRequest,
    EncodeRequest,
    Fidelity,
    GenerateRequest,
    ImageFormat,
    JobKind,
    ReconstructRequest,
    Request,
)
from service.job import Job, Status

MAX_IMAGES_PER_REQUEST = 4


def _without_sampling_defaults(schema: dict[str, Any]) -> None:
    """What is left out comes from the model's manifest (and a seed is drawn), not from a constant."""
    for name in SamplingParams.model_fields:
        schema["properties"][name].pop("default", None)


class GenerationBody(SamplingParams):
    """Body of a generation. What is left out is chosen by the model; a missing seed is drawn."""

    model_config = ConfigDict(json_schema_extra=_without_sampling_defaults)

    class_id: int | None = Field(default=None, ge=0, description="null or absent: unconditional")
    class_name: str | None = Field(default=None, max_length=100, description="instead of class_id")
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES_PER_REQUEST)
    format: ImageFormat = ImageFormat.PNG


class JobTimings(BaseModel):
    """Seconds. `queued_s`: accepted -> a worker took it; the next three inside the worker."""

    queued_s: float | None = None
    waited_s: float | None = None
    ran_s: float | None = None
    encoded_s: float | None = None
    total_s: float | None = None


class JobDocument(BaseModel):
    """The one envelope of every job. `position`: 1 is next, null once a worker has it."""

    id: str
    kind: JobKind
    status: Status
    position: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    request: dict[str, Any]
    seeds: list[int]
    images: list[str]
    height: int | None
    width: int | None
    fidelity: Fidelity | None
    error: str | None
    timings: JobTimings
    links: dict[str, str]


class ModelDocument(BaseModel):
    """A model that is served; one without a prior has every task but `generate`."""

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


class ModelList(BaseModel):
    models: list[ModelDocument]


class ClassDocument(BaseModel):
    id: int
    name: str


class ClassList(BaseModel):
    model: str
    classes: list[ClassDocument]


def blob_link(key: str) -> str:
    """Where the bytes under `key` are read: the folder in the key chooses the resource."""
    return f"/v1/{key}"


def job_link(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


def job_document(job: Job, manifest: Manifest) -> JobDocument:
    """The envelope of `job` as it stands."""
    output = job.output
    links = {"self": job_link(job.id)}
    if output and output.codes_key:
        links["codes"] = blob_link(output.codes_key)
    return JobDocument(
        id=job.id,
        kind=job.kind,
        status=job.status,
        position=job.position,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        request=_request_document(job.request, manifest),
        seeds=output.seeds if output else [],
        images=[blob_link(key) for key in output.image_keys] if output else [],
        height=output.height if output else None,
        width=output.width if output else None,
        fidelity=output.fidelity if output else None,
        error=job.error,
        timings=_timings(job),
        links=links,
    )


def _request_document(request: Request, manifest: Manifest) -> dict[str, Any]:
    """What to send again to get the same."""
    match request:
        case GenerateRequest():
            return {
                "class_id": request.class_id,
                "class_name": _class_name(request.class_id, manifest),
                "num_images": request.num_images,
                **request.sampling.model_dump(mode="json"),
                "format": request.format.value,
            }
        case ReconstructRequest():
            return {
                "image": blob_link(request.image_key),
                "format": request.format.value,
                "tiling": request.tiling.value,
            }
        case EncodeRequest():
            return {"image": blob_link(request.image_key), "tiling": request.tiling.value}
        case DecodeRequest():
            return {
                "codes": blob_link(request.codes_key),
                "format": request.format.value,
                "tiling": request.tiling.value,
            }


def _class_name(class_id: int | None, manifest: Manifest) -> str | None:
    if class_id is None or class_id >= len(manifest.labels):
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
