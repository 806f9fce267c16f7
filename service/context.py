"""Context: what every route may use; made by `create_app`, found through the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from anyio import to_thread
from fastapi import Depends, Request

from movq_core.blobs import BlobStore, owner_of
from movq_core.errors import BlobNotFound, InvalidRequest
from movq_core.tracing import Tracing
from service.catalog import Catalog
from service.events import JobEvents
from service.jobs import JobStore
from service.limits import RateLimit
from service.metrics import Metrics
from service.settings import Settings
from service.uploads import Uploads


@dataclass(frozen=True)
class Context:
    """The parts of one app."""

    settings: Settings
    jobs: JobStore
    events: JobEvents
    blobs: BlobStore
    catalog: Catalog
    metrics: Metrics
    uploads: Uploads
    rate_limit: RateLimit | None
    tracing: Tracing

    async def read_blob(self, key: str, owner: str | None) -> bytes:
        """Bytes under `key`, off the event loop; raises BlobNotFound, for another owner's too."""
        try:
            if owner_of(key) == owner:
                return await to_thread.run_sync(self.blobs.get, key)
        except (BlobNotFound, InvalidRequest):
            pass
        raise BlobNotFound(f"There is no {key[:200]}, or no more: it was old, or had to make room.")

    async def store_blob(self, folder: str, data: bytes, suffix: str, owner: str | None) -> str:
        """Store `data`, off the event loop; returns its key."""
        return await to_thread.run_sync(self.blobs.put, folder, data, suffix, owner)


def get_context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(get_context)]
