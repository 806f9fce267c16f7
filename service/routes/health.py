"""Health: is the process alive, can it serve, and what has it done?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from movq_core.protocol import JobKind
from service.catalog import Bundle
from service.context import Context, Ctx
from service.openapi import Responses, declare

router = APIRouter(tags=["health"])

_TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class ModelReadiness(BaseModel):
    """`workers` of a model were heard from lately; `tasks` are done here."""

    name: str
    tasks: list[JobKind]
    workers: int
    queued_images: int
    running_images: int


class Readiness(BaseModel):
    """Redis answers, and `model`, the default, has a worker; of the others, `models` tells."""

    status: Literal["ready"] = "ready"
    model: str
    models: list[ModelReadiness]


@router.get("/livez")
async def livez() -> Liveness:
    """The process answers; nothing else is asked."""
    return Liveness()


@router.get("/readyz", responses=declare(503))
async def readyz(context: Ctx) -> Readiness:
    """Redis can be reached, and a worker listens to the default model's queues."""
    models = [await _readiness(context, bundle) for bundle in context.catalog.bundles]
    if not models[0].workers:
        raise HTTPException(503, "No worker is listening; jobs wait until one comes.", {"Retry-After": "5"})
    return Readiness(model=models[0].name, models=models)


async def _readiness(context: Context, bundle: Bundle) -> ModelReadiness:
    load = await context.jobs.load(bundle.name)
    return ModelReadiness(
        name=bundle.name,
        tasks=list(bundle.manifest.tasks),
        workers=await context.jobs.workers(bundle.name),
        queued_images=load.queued_images,
        running_images=load.running_images,
    )


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(context: Ctx) -> Response:
    """Prometheus' exposition text."""
    names = [bundle.name for bundle in context.catalog.bundles]
    text = await context.metrics.scrape(context.jobs, context.blobs, names)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
