"""The store of images away: what callers are told, and what becomes of jobs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from movq_core.blobs import BlobStore
from movq_core.protocol import ReconstructRequest
from service.settings import Settings
from tests.service.pictures import encoded, gradient
from worker.fakes import TINY
from worker.in_flight import failure_of
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool


@pytest.fixture
def in_its_place(settings: Settings) -> Path:
    """A file where the store's folder should be."""
    path = Path(settings.blobs_url)
    path.write_text("nothing can be stored below a file")
    return path


def test_callers_are_told_to_come_again(client: httpx.Client, in_its_place: Path) -> None:
    image = {"image": encoded(gradient(57, 33))}
    answers = [client.post("/v1/encodings", files=image), client.get(f"/v1/images/{'0' * 64}.png")]
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "blob_store_unavailable"
        assert answer.headers["retry-after"]
    in_its_place.unlink()
    assert client.post("/v1/encodings", files=image).status_code == 202


def test_a_job_is_tried_again(settings: Settings, in_its_place: Path) -> None:
    pool = ImagePool(BlobStore(settings.blobs_url), TINY, WorkerMetrics(), threads=1)
    error = pool.load("job", ReconstructRequest(image_key=f"uploads/{'0' * 64}.png")).exception(10)
    pool.close()
    ending = failure_of(error)
    assert (ending.how, ending.retry) == ("failed", True)
    assert "store of images cannot be reached" in ending.message
