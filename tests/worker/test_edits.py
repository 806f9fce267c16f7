"""Edits on a real model: equal to the oracle, and nothing changes that was not to. Exact, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from movq_core.blobs import BlobStore
from movq_core.bundle import ModelBundle
from movq_core.edits import code_mask, remasked
from movq_core.params import SamplingParams, UnmaskOrder, derived_seed
from movq_core.picture import encode_image
from movq_core.protocol import EditRequest, ImageFormat, JobOutput
from movq_core.sampling.generate import generate_codes
from worker.engine import Engine
from worker.fakes import TINY, SilentMetrics
from worker.images import decode_image
from worker.metrics import WorkerMetrics
from worker.model_runner import ModelRunner
from worker.pool import ImagePool, read_codes
from worker.work import Outcome, Watch

MASK_CODE = TINY.movq.codebook_size
PHOTO = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[5:9, 2:14] = 255


@pytest.fixture(scope="module")
def runner(sharp_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> ModelRunner:
    folder = tmp_path_factory.mktemp("bundle")
    sharp_bundle.save(folder)
    return ModelRunner(folder, 4, "cpu")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path))


@pytest.fixture
def pool(blobs: BlobStore) -> Iterator[ImagePool]:
    pool = ImagePool(blobs, TINY, WorkerMetrics(), threads=1)
    yield pool
    pool.close()


def asked(blobs: BlobStore, image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, **fields: object):
    def upload(pixels: NDArray[np.uint8]) -> str:
        return blobs.put("uploads", encode_image(pixels, ImageFormat.PNG), "png")

    mask_key = None if mask is None else upload(mask)
    return EditRequest(image_key=upload(image), mask_key=mask_key, **fields)


def edited(runner: ModelRunner, pool: ImagePool, request: EditRequest, *, watched: bool = False) -> JobOutput:
    """Through pool, engine and pool, as the intake does it."""
    engine = Engine(runner, 4, SilentMetrics())
    engine.inbox.put(pool.load("job", request).result())
    engine.inbox.put(Watch("job", watched))
    while True:
        engine.tick()
        while not engine.outbox.empty():
            if isinstance(outcome := engine.outbox.get(), Outcome):
                assert outcome.error is None
                return pool.store(outcome).result()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"class_id": 2, "num_images": 3, "strength": 0.6},
        {"sampling": SamplingParams(steps=7, seed=3, guidance_scale=3.0), "class_id": 1},
        {"sampling": SamplingParams(steps=5, seed=4, order=UnmaskOrder.HALTON, top_k=8)},
    ],
    ids=["plain", "several images of a class", "guided", "halton"],
)
def test_an_edit_is_the_oracles_codes_decoded_in_the_mask(
    runner: ModelRunner, pool: ImagePool, blobs: BlobStore, fields: dict[str, object]
) -> None:
    request = asked(blobs, PHOTO, MASK, feather_px=0, **fields)
    output = edited(runner, pool, request)
    before = runner.encode(PHOTO)
    cells = code_mask(MASK > 0, TINY.movq.downsampling_factor)
    assert cells.tolist() == [[False] * 4, [True] * 4, [True] * 4, [False] * 4]
    prior = runner.bundle.maskgit
    for index, key in enumerate(output.image_keys):
        seed = derived_seed(request.sampling.seed, index)
        known = torch.from_numpy(remasked(before, cells, request.strength, seed, MASK_CODE))[None]
        sampling = request.sampling.model_copy(update={"seed": seed})
        codes = generate_codes(prior, request.class_id, sampling, known)[0].numpy()
        expected = np.where(MASK[..., None] > 0, runner.decode(codes), PHOTO)
        assert np.array_equal(decode_image(blobs.get(key)), expected)
        if index == 0:
            assert np.array_equal(read_codes(blobs.get(output.codes_key))[0], codes)
    assert output.seeds == [derived_seed(request.sampling.seed, i) for i in range(request.num_images)]


def test_codes_outside_the_code_mask_are_the_encoders(
    runner: ModelRunner, pool: ImagePool, blobs: BlobStore
) -> None:
    output = edited(runner, pool, asked(blobs, PHOTO, MASK, sampling=SamplingParams(seed=8)))
    codes, before = read_codes(blobs.get(output.codes_key))[0], runner.encode(PHOTO)
    cells = code_mask(MASK > 0, TINY.movq.downsampling_factor)
    assert np.array_equal(codes[:, ~cells], before[:, ~cells])
    assert not np.array_equal(codes[:, cells], before[:, cells])
    assert codes.max() < MASK_CODE


def test_pixels_beyond_the_feather_are_the_inputs_whatever_the_images_size(
    runner: ModelRunner, pool: ImagePool, blobs: BlobStore
) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    mask = np.zeros((70, 110), np.uint8)
    mask[20:50, 30:90] = 255
    output = edited(runner, pool, asked(blobs, photo, mask, feather_px=5))
    image = decode_image(blobs.get(output.image_keys[0]))
    beyond = np.ones(mask.shape, bool)
    beyond[15:55, 25:95] = False
    assert (output.height, output.width) == (70, 110)
    assert np.array_equal(image[beyond], photo[beyond])
    assert not np.array_equal(image[mask > 0], photo[mask > 0])


def test_a_variation_keeps_a_share_of_all_codes(
    runner: ModelRunner, pool: ImagePool, blobs: BlobStore
) -> None:
    kept = []
    for strength in (0.1, 0.5, 1.0):
        output = edited(runner, pool, asked(blobs, PHOTO, None, strength=strength))
        codes = read_codes(blobs.get(output.codes_key))[0]
        kept.append(int((codes == runner.encode(PHOTO)).sum()))
        assert kept[-1] >= round((1 - strength) * codes.size)
    assert kept == sorted(kept, reverse=True)


def test_a_watched_edit_is_the_same(runner: ModelRunner, pool: ImagePool, blobs: BlobStore) -> None:
    request = asked(blobs, PHOTO, MASK, num_images=2, sampling=SamplingParams(steps=9))
    unwatched, watched = edited(runner, pool, request), edited(runner, pool, request, watched=True)
    assert (watched.image_keys, watched.codes_key) == (unwatched.image_keys, unwatched.codes_key)
