"""create_app: the service from its parts; it keeps nothing outside the app that it returns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest
from service import problems
from service.body_limit import BodyLimit
from service.context import Context
from service.intake import FORM_OVERHEAD_BYTES
from service.jobs import JobStore
from service.metrics import Metrics
from service.observation import Observation
from service.routes import decode, encode, generate, health, images, jobs, models, page, reconstruct
from service.settings import Settings
from service.uploads import UploadCleaner

_ROUTERS = (generate, reconstruct, encode, decode, jobs, images, models, health, page)


def create_app(settings: Settings, jobs: JobStore, blobs: BlobStore, manifest: Manifest) -> FastAPI:
    """The ASGI app; it closes `jobs` when it shuts down."""
    context = Context(settings, jobs, blobs, manifest, Metrics(), _cleaner(settings))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await jobs.close()

    app = FastAPI(
        title="movq",
        description="Images out of codes: generate, reconstruct, encode, decode.",
        lifespan=lifespan,
    )
    app.state.context = context
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes + FORM_OVERHEAD_BYTES)
    app.add_middleware(Observation, metrics=context.metrics)  # added last, so it stands outside
    problems.install(app)
    for module in _ROUTERS:
        app.include_router(module.router)
    app.mount("/static", page.static_files(), name="static")
    return app


def _cleaner(settings: Settings) -> UploadCleaner:
    return UploadCleaner(
        max_pixels=settings.max_image_pixels,
        timeout_s=settings.decode_timeout_s,
        threads=settings.decode_threads,
    )
