"""Context: what every route may use; made by `create_app`, found through the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from anyio import to_thread
from fastapi import Depends, Request

from movq_core.blobs import BlobStore
from movq_core.manifest import Manifest
from service.jobs import JobStore
from service.metrics import Metrics
from service.settings import Settings
from service.uploads import UploadCleaner


@dataclass(frozen=True)
class Context:
    """The parts of one app."""

    settings: Settings
    jobs: JobStore
    blobs: BlobStore
    manifest: Manifest
    metrics: Metrics
    uploads: UploadCleaner

    async def read_blob(self, key: str) -> bytes:
        """Bytes under `key`, off the event loop; raises BlobNotFound."""
        return await to_thread.run_sync(self.blobs.get, key)

    async def store_blob(self, folder: str, data: bytes, suffix: str) -> str:
        """Store `data`, off the event loop; returns its key."""
        return await to_thread.run_sync(self.blobs.put, folder, data, suffix)


def get_context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


Ctx = Annotated[Context, Depends(get_context)]
