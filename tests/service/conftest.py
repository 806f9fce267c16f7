"""The service with its real Redis; and a stand-in for the worker, for the tests that ask for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from movq_core.blobs import BlobStore
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest, write_manifest
from movq_core.params import SamplingParams
from service.app import create_app
from service.catalog import Catalog
from service.events import JobEvents
from service.jobs import JobStore
from service.settings import Settings
from tests.service.serving import serving
from tests.service.standin import StandIn

LABELS = (
    "faces",
    "hearts",
    "fruit",
    "animals",
    "vehicles",
    "buildings",
    "people",
    "food",
    "plants",
    "tools",
    "flags",
    "weather",
)

Serve = Callable[..., httpx.Client]


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        name="emoji-64",
        movq=MOVQ_PRESETS["emoji-64"],
        maskgit=MASKGIT_PRESETS["emoji-64"].model_copy(update={"num_classes": len(LABELS)}),
        sampling=SamplingParams(steps=10, guidance_scale=2.5, choice_temperature=3.0),
        labels=LABELS,
    )


@pytest.fixture
def bundle(manifest: Manifest, tmp_path: Path) -> Path:
    """Folder of the bundle that is served."""
    folder = tmp_path / "bundle"
    write_manifest(manifest, folder)
    return folder


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, bundle: Path) -> Settings:
    return Settings(
        redis_url=redis_url, blobs_url=str(tmp_path / "blobs"), models=(bundle,), max_queue_images=16
    )


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.blobs_url)


def app_of(settings: Settings) -> FastAPI:
    """The app, wired as `__main__` does it."""
    blobs, catalog = BlobStore(settings.blobs_url), Catalog(settings.models)
    return create_app(settings, JobStore(settings), JobEvents(settings), blobs, catalog)


@pytest.fixture
def base_url(settings: Settings) -> Iterator[str]:
    with serving(app_of(settings)) as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=30) as client:
        yield client


@pytest.fixture
def serve(settings: Settings) -> Iterator[Serve]:
    """Serves with other settings: `serve(api_keys=...)` is a client of that service."""
    with ExitStack() as stack:

        def start(**changes: Any) -> httpx.Client:
            changed = Settings.model_validate({**dict(settings), **changes})
            url = stack.enter_context(serving(app_of(changed)))
            return stack.enter_context(httpx.Client(base_url=url, timeout=30))

        yield start


@pytest.fixture
def worker(settings: Settings, blobs: BlobStore, manifest: Manifest) -> Iterator[StandIn]:
    with StandIn(settings.redis_url, blobs, manifest) as standin:
        yield standin
