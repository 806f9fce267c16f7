"""From requests to work, from outcomes to what a job returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from movq_core.blobs import BlobStore, content_key
from movq_core.errors import BlobNotFound, InvalidRequest
from movq_core.protocol import (
    CodesDocument,
    DecodeRequest,
    EncodeRequest,
    GenerateRequest,
    ImageFormat,
    ReconstructRequest,
)
from worker.fakes import TINY
from worker.images import decode_image, encode_image
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.work import Outcome, Work

PIXELS = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
CODES = np.arange(2 * 2 * 3, dtype=np.int64).reshape(2, 2, 3)  # 8x12 pixels, 4 to a side of a cell


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


@pytest.fixture
def pool(blobs: BlobStore) -> Iterator[ImagePool]:
    pool = ImagePool(blobs, TINY, WorkerMetrics(), threads=2)
    yield pool
    pool.close()


def codes_key(blobs: BlobStore, **changes: object) -> str:
    document = CodesDocument(model="tiny", height=8, width=12, codes=CODES.tolist())
    changed = document.model_copy(update=changes)
    return blobs.put("codes", changed.model_dump_json().encode(), "json")


def test_an_image_is_read_for_reconstruct_and_encode(pool: ImagePool, blobs: BlobStore) -> None:
    key = blobs.put("uploads", encode_image(PIXELS, ImageFormat.PNG), "png")
    for request in (ReconstructRequest(image_key=key), EncodeRequest(image_key=key)):
        work = pool.load("job", request).result()
        assert work.pixels is not None
        assert np.array_equal(work.pixels, PIXELS)


def test_codes_are_read_for_decode(pool: ImagePool, blobs: BlobStore) -> None:
    work = pool.load("job", DecodeRequest(codes_key=codes_key(blobs))).result()
    assert work.codes is not None
    assert np.array_equal(work.codes, CODES)
    assert work.size == (8, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 9}, "9x12 pixels are"),
        ({"codes": (CODES + 21).tolist()}, "codes must be 0 to 31"),
        ({"codes": (CODES - 1).tolist()}, "codes must be 0 to 31"),
        ({"codes": [[[1], [2, 3]]]}, "not of one length"),
        ({"codes": []}, "shape"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    pool: ImagePool, blobs: BlobStore, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        pool.load("job", DecodeRequest(codes_key=codes_key(blobs, **changes))).result()


def test_a_document_that_is_none_is_refused(pool: ImagePool, blobs: BlobStore) -> None:
    key = blobs.put("codes", b"{}", "json")
    with pytest.raises(InvalidRequest, match="not a codes document"):
        pool.load("job", DecodeRequest(codes_key=key)).result()


def test_a_missing_blob_is_told(pool: ImagePool) -> None:
    with pytest.raises(BlobNotFound):
        pool.load("job", ReconstructRequest(image_key=content_key("uploads", b"", "png"))).result()


def test_generated_images_are_stored_in_order(pool: ImagePool, blobs: BlobStore) -> None:
    work = Work("job", GenerateRequest(num_images=2, format=ImageFormat.WEBP), received_s=1.0)
    images = (PIXELS, PIXELS[::-1].copy())
    outcome = Outcome(work, images=images, seeds=(4, 5), started_s=3.0, finished_s=7.0)
    output = pool.store(outcome).result()
    assert output.image_keys == [
        blobs.put("images", encode_image(i, ImageFormat.WEBP), "webp") for i in images
    ]
    assert output.seeds == [4, 5]
    assert (output.height, output.width) == (8, 12)
    assert (output.timings.waited_s, output.timings.ran_s) == (2.0, 4.0)
    assert output.fidelity is None


def test_a_reconstruction_tells_its_fidelity(pool: ImagePool, blobs: BlobStore) -> None:
    work = Work("job", ReconstructRequest(image_key="any"), pixels=PIXELS)
    outcome = Outcome(work, images=(PIXELS,), codes=CODES)
    output = pool.store(outcome).result()
    assert np.array_equal(decode_image(blobs.get(output.image_keys[0])), PIXELS)
    assert output.fidelity is not None
    # 12 codes of 5 bits are 60 bits, 8 bytes when packed; 64 bits over 96 pixels.
    assert output.fidelity.codes_bytes == 8
    assert output.fidelity.bits_per_pixel == pytest.approx(64 / 96)


def test_encoded_codes_come_back_as_they_went(pool: ImagePool, blobs: BlobStore) -> None:
    work = Work("job", EncodeRequest(image_key="any"), pixels=PIXELS)
    output = pool.store(Outcome(work, codes=CODES)).result()
    assert output.codes_key is not None
    assert output.image_keys == []
    again = pool.load("job", DecodeRequest(codes_key=output.codes_key)).result()
    assert again.codes is not None
    assert np.array_equal(again.codes, CODES)
