"""Health: is the process alive, can it serve, and what has it done?"""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from movq_core.protocol import JobKind
from service.context import Ctx
from service.problems import declare

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    status: str = "alive"


class Readiness(BaseModel):
    """Redis answers, and `workers` of them were heard from lately; `tasks` of `model` are done here."""

    status: str = "ready"
    model: str
    tasks: list[JobKind]
    workers: int
    queued_images: int
    running_images: int


@router.get("/livez")
async def livez() -> Liveness:
    """The process answers; nothing else is asked."""
    return Liveness()


@router.get("/readyz", responses=declare(503))
async def readyz(context: Ctx) -> Readiness:
    """Redis can be reached, and a worker listens to our queue."""
    workers, load = await context.jobs.workers(), await context.jobs.load()
    if not workers:
        raise HTTPException(503, "No worker is listening; jobs wait until one comes.", {"Retry-After": "5"})
    return Readiness(
        model=context.manifest.name,
        tasks=list(context.manifest.tasks),
        workers=workers,
        queued_images=load.queued_images,
        running_images=load.running_images,
    )


@router.get("/metrics", response_class=Response)
async def metrics(context: Ctx) -> Response:
    """Prometheus' exposition text."""
    return Response(await context.metrics.scrape(context.jobs), media_type=CONTENT_TYPE_LATEST)
