"""create_app: the service from its parts; it keeps nothing outside the app that it returns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from movq_core.blobs import BlobStore
from movq_core.tracing import NO_TRACING, Tracing
from service import openapi, problems
from service.body_limit import BodyLimit
from service.catalog import Catalog
from service.context import Context
from service.decoding.pool import DecodingPool
from service.events import JobEvents
from service.intake import FORM_OVERHEAD_BYTES
from service.jobs import JobStore
from service.limits import RateLimit
from service.metrics import Metrics
from service.observation import Observation
from service.routes import (
    blobs,
    decode,
    docs,
    edit,
    encode,
    generate,
    health,
    jobs,
    models,
    openai_images,
    page,
    reconstruct,
    session,
)
from service.security_headers import SecurityHeaders
from service.settings import Settings
from service.uploads import Uploads

_ROUTERS = (
    generate,
    edit,
    reconstruct,
    encode,
    decode,
    jobs,
    blobs,
    models,
    openai_images,
    session,
    health,
    docs,
    page,
)
_EXPOSED = ("Location", "Retry-After", "X-Request-Id", "X-Movq-Job-Id", "X-Movq-Seed", "Idempotency-Replayed")


def create_app(
    settings: Settings,
    store: JobStore,
    events: JobEvents,
    blob_store: BlobStore,
    catalog: Catalog,
    *,
    tracing: Tracing = NO_TRACING,
) -> FastAPI:
    """The ASGI app; it closes `store`, `events`, `tracing` and its decoders when it shuts down."""
    rate_limit = RateLimit(settings.rate_limit, settings.redis_url) if settings.rate_limit else None
    metrics = Metrics()
    uploads = _uploads(settings, metrics)
    context = Context(settings, store, events, blob_store, catalog, metrics, uploads, rate_limit, tracing)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.uploads.close()
        await events.close()
        await store.close()
        if rate_limit is not None:
            await rate_limit.close()
        tracing.close()

    app = FastAPI(
        title="movq",
        version=version("movq"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.context = context
    problems.install(app)
    _add_middleware(app, context)
    openapi.install(app, keys=bool(settings.api_keys))
    for module in _ROUTERS:
        app.include_router(module.router)
    app.mount("/static", page.static_files(), name="static")
    app.mount(docs.FILES, docs.static_files(), name="docs")
    return app


def _add_middleware(app: FastAPI, context: Context) -> None:
    """Each one stands outside those before it."""
    settings = context.settings
    max_bytes = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    app.add_middleware(
        BodyLimit,
        max_bytes=max_bytes,
        max_held_bytes=max(settings.max_bodies_bytes, max_bytes),  # one alone always fits
        small=_parsed_by_fastapi(),
        patience_s=settings.client_patience_s,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
        )
    app.add_middleware(SecurityHeaders, shared=bool(settings.cors_origins))
    app.add_middleware(Observation, metrics=context.metrics, tracing=context.tracing)


def _parsed_by_fastapi() -> frozenset[str]:
    """Paths whose bodies FastAPI parses as JSON, on the event loop."""
    routes = [route for module in _ROUTERS for route in module.router.routes]
    return frozenset(route.path for route in routes if isinstance(route, APIRoute) and route.body_field)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _uploads(settings: Settings, metrics: Metrics) -> Uploads:
    pool = DecodingPool(
        max_pixels=settings.max_image_pixels,
        max_bytes=settings.max_upload_bytes,
        timeout_s=settings.decode_timeout_s,
        processes=settings.decode_processes,
    )
    return Uploads(pool, metrics.upload_refused)
