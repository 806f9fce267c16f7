"""The store of images away: what callers are told. What becomes of jobs: tests/worker/test_rq_worker.py."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.service.pictures import encoded, gradient


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
