"""The service with its real Redis; and a stand-in for the worker, for the tests that ask for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from movq_core.blobs import BlobStore
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest
from movq_core.params import SamplingParams
from service.app import create_app
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
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, blobs_url=str(tmp_path / "blobs"), max_queue_images=16)


@pytest.fixture
def blobs(settings: Settings) -> BlobStore:
    return BlobStore(settings.blobs_url)


@pytest.fixture
def base_url(settings: Settings, blobs: BlobStore, manifest: Manifest) -> Iterator[str]:
    with serving(create_app(settings, JobStore(settings), blobs, manifest)) as url:
        yield url


@pytest.fixture
def client(base_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=base_url, timeout=30) as client:
        yield client


@pytest.fixture
def worker(settings: Settings, blobs: BlobStore, manifest: Manifest) -> Iterator[StandIn]:
    with StandIn(settings.redis_url, blobs, manifest) as standin:
        yield standin
