"""From requests to work, from outcomes to what a job returns."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from movq_core.blobs import BlobStore, content_key, owner_of
from movq_core.errors import BlobNotFound, InvalidRequest
from movq_core.picture import encode_image
from movq_core.protocol import (
    CodesDocument,
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    GenerateRequest,
    ImageFormat,
    ReconstructRequest,
)
from worker.fakes import TINY
from worker.fit import check_fit
from worker.images import decode_image
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool, read_codes
from worker.work import Outcome, Preview, Work

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


def upload(blobs: BlobStore, pixels: NDArray[np.uint8]) -> str:
    return blobs.put("uploads", encode_image(pixels, ImageFormat.PNG), "png")


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
    check_fit(work, TINY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 9}, "9x12 pixels are"),
        ({"codes": (CODES + 21).tolist()}, "codes must be 0 to 31"),
        ({"codes": (CODES - 1).tolist()}, "codes must be 0 to 31"),
        ({"codes": [[[1], [2, 3]]]}, "not rows of one length"),
        ({"codes": [[[2**63]]]}, "far too large"),
        ({"codes": []}, "shape"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    pool: ImagePool, blobs: BlobStore, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_fit(pool.load("job", DecodeRequest(codes_key=codes_key(blobs, **changes))).result(), TINY)


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
    outcome = Outcome(work, images=(PIXELS,), codes=CODES, manifest=TINY)
    output = pool.store(outcome).result()
    assert output.codes_key is not None
    assert np.array_equal(read_codes(blobs.get(output.codes_key))[0], CODES)
    assert np.array_equal(decode_image(blobs.get(output.image_keys[0])), PIXELS)
    assert output.fidelity is not None
    # 12 codes of 5 bits are 60 bits, 8 bytes when packed; 64 bits over 96 pixels.
    assert output.fidelity.codes_bytes == 8
    assert output.fidelity.bits_per_pixel == pytest.approx(64 / 96)


def test_encoded_codes_come_back_as_they_went(pool: ImagePool, blobs: BlobStore) -> None:
    work = Work("job", EncodeRequest(image_key="any"), pixels=PIXELS)
    output = pool.store(Outcome(work, codes=CODES, manifest=TINY)).result()
    assert output.codes_key is not None
    assert output.image_keys == []
    again = pool.load("job", DecodeRequest(codes_key=output.codes_key)).result()
    assert again.codes is not None
    assert np.array_equal(again.codes, CODES)


PHOTO = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
MASK = np.zeros((30, 40), np.uint8)
MASK[10:14, 20:23] = 1  # anything but black


def test_an_edit_is_a_window_of_the_image_that_comes_back_in_it(pool: ImagePool, blobs: BlobStore) -> None:
    request = EditRequest(
        image_key=upload(blobs, PHOTO), mask_key=upload(blobs, MASK), feather_px=2, owner="anna"
    )
    work = pool.load("job", request).result()
    assert work.pixels is not None
    assert work.mask is not None
    assert work.pixels.shape == (16, 16, 3), "the model's size, which is the window's"
    assert work.mask.sum() == MASK.sum()
    new = np.full((16, 16, 3), 200, np.uint8)
    outcome = Outcome(work, images=(new, new[..., ::-1]), seeds=(1, 2), codes=CODES, manifest=TINY)
    output = pool.store(outcome).result()
    assert (output.height, output.width) == (30, 40)
    image = decode_image(blobs.get(output.image_keys[0]))
    assert (image[MASK > 0] == 200).all()
    beyond = np.ones(MASK.shape, bool)
    beyond[8:16, 18:25] = False
    assert np.array_equal(image[beyond], PHOTO[beyond])
    assert output.codes_key is not None
    assert {owner_of(key) for key in (*output.image_keys, output.codes_key)} == {"anna"}
    codes, size = read_codes(blobs.get(output.codes_key))
    assert np.array_equal(codes, CODES)
    assert size == (16, 16), "the codes are the window's"


def test_an_edit_without_a_mask_is_of_all_of_the_image(pool: ImagePool, blobs: BlobStore) -> None:
    work = pool.load("job", EditRequest(image_key=upload(blobs, PHOTO), strength=0.3)).result()
    assert work.window is not None
    assert (work.window.rows, work.window.columns) == (slice(0, 30), slice(0, 40))
    output = pool.store(
        Outcome(work, images=(np.full((16, 16, 3), 9, np.uint8),), codes=CODES, manifest=TINY)
    ).result()
    assert (decode_image(blobs.get(output.image_keys[0])) == 9).all()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (MASK[:, 1:], "the mask has 39x30 pixels, the image 40x30"),
        (np.zeros_like(MASK), "black everywhere"),
    ],
)
def test_masks_that_do_not_fit_are_refused(
    pool: ImagePool, blobs: BlobStore, mask: NDArray[np.uint8], said: str
) -> None:
    request = EditRequest(image_key=upload(blobs, PHOTO), mask_key=upload(blobs, mask))
    with pytest.raises(InvalidRequest, match=said):
        pool.load("job", request).result()


def test_a_preview_is_a_webp_that_keeps_its_transparency(pool: ImagePool, blobs: BlobStore) -> None:
    pixels = np.dstack([PHOTO, np.repeat([[0, 120, 255, 60]], 10, 1).repeat(30, 0).astype(np.uint8)])
    event = pool.store_preview(Preview("job", 3, 5, 0.25, pixels, owner="anna")).result()
    assert (event.index, event.step, event.known) == (3, 5, 0.25)
    assert event.image_key.startswith("previews/anna/")
    with Image.open(io.BytesIO(blobs.get(event.image_key))) as image:
        assert image.format == "WEBP"
        assert np.array_equal(np.asarray(image)[..., 3], pixels[..., 3])


def test_nothing_of_an_owner_is_among_what_is_everybodys(pool: ImagePool, blobs: BlobStore) -> None:
    for owner in ("anna", None):
        work = Work("job", GenerateRequest(owner=owner))
        (key,) = pool.store(Outcome(work, images=(PIXELS,), manifest=TINY)).result().image_keys
        assert owner_of(key) == owner
