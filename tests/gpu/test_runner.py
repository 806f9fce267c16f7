"""ModelRunner on CUDA: graphs, buckets, the decode stream, deterministic mode. Skipped without a GPU.

Needs torch, numpy, pydantic and pytest alone: `pytest --noconftest -c /dev/null --rootdir . tests/gpu`.
"""

import numpy as np
import pytest
import torch

from movq_core.bundle import ModelBundle
from movq_core.config import MASKGIT_PRESETS, MOVQ_PRESETS
from movq_core.manifest import Manifest
from movq_core.params import GuidanceSchedule, SamplingParams, UnmaskOrder
from movq_core.sampling.batch import bucket_sizes
from movq_core.sampling.generate import generate_codes
from movq_core.sampling.sampler import Sampler
from worker.model_runner import DETERMINISTIC_ENTRIES, ModelRunner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

ROWS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny bundle with opinions: nearly flat logits would hide mistakes."""
    labels = ("one", "two", "three")
    manifest = Manifest(
        name="tiny", movq=MOVQ_PRESETS["tiny"], maskgit=MASKGIT_PRESETS["tiny"], labels=labels
    )
    bundle = ModelBundle.random(manifest)
    for table in [*bundle.maskgit.heads, *bundle.maskgit.code_embeddings, bundle.maskgit.class_embedding]:
        table.weight.data.mul_(40.0)
    path = tmp_path_factory.mktemp("bundle")
    bundle.save(path)
    return path


@pytest.fixture(scope="module")
def runner(folder):
    return ModelRunner(folder, ROWS, "cuda")


@pytest.fixture(scope="module")
def deterministic(folder):
    return ModelRunner(folder, ROWS, "cuda", deterministic=True)


def image_number(number):
    """Class and parameters of an image; every third is guided, and no two take the same steps."""
    return number % 3, SamplingParams(
        steps=3 + number,
        seed=number,
        guidance_scale=3.0 if number % 3 == 0 else 1.0,
        guidance_schedule=list(GuidanceSchedule)[number // 3 % 3],
        order=list(UnmaskOrder)[number % 2],
        top_k=5 if number % 4 > 1 else None,
    )


def half_known():
    """Codes (2, 4, 4) of which the upper half is known."""
    codes = np.full((2, 4, 4), 32)
    codes[:, :2] = 7
    return codes


def run_together(runner, images):
    """Images, row -> number, from their first step to their last; row -> FinishedImage."""
    for row, number in images.items():
        runner.start(row, *image_number(number))
    finished = {}
    for step in range(3 + max(images.values())):
        rows = [row for row in images if row not in finished]
        runner.step(rows, [step] * len(rows))
        done = [row for row in rows if step + 1 == image_number(images[row])[1].steps]
        if done:
            finished.update(zip(done, runner.finish(done), strict=True))
    return finished


def test_a_recorded_step_is_the_step_itself(folder):
    prior = ModelBundle.load(folder, "cuda").maskgit.to(torch.bfloat16)
    recorded, plain = (Sampler(prior, ROWS, bucket_sizes(2 * ROWS)) for _ in range(2))
    plain._graphs = None
    for row in range(ROWS):
        for sampler in (recorded, plain):
            sampler.start(row, *image_number(row))
    for step in range(3):
        rows = list(range(ROWS - 2 * step))  # each step is another bucket
        for sampler in (recorded, plain):
            sampler.step(rows, [step] * len(rows))
        assert torch.equal(recorded.codes(rows), plain.codes(rows))
        assert torch.equal(recorded.rows.fields.step, plain.rows.fields.step)


def test_a_step_makes_the_host_wait_for_nothing(runner):
    """But the end of the step before: no tensor is read back, no copy is from memory that can be paged."""
    runner.start(0, *image_number(0))
    runner.step([0], [0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        runner.start(1, *image_number(1), half_known())
        runner.step([0, 1], [1, 0])
        runner.step([0, 1], [2, 1])
        (image,) = runner.finish([0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert image.pixels().shape == (16, 16, 3)


def test_known_codes_stay_and_a_preview_changes_nothing(runner):
    runner.start(0, 1, SamplingParams(steps=3, seed=1), half_known())
    for step in range(3):
        runner.step([0], [step])
        before = runner.sampler.codes([0])
        preview = runner.preview(0)
        assert torch.equal(runner.sampler.codes([0]), before)
        assert (preview[:8, :, 3] == 255).all()
    (image,) = runner.finish([0])
    assert (image.codes[:, :2] == 7).all()
    assert (preview[..., 3] == 255).all()
    assert np.abs(preview[..., :3].astype(int) - image.pixels()).max() <= 2


def test_float32_agrees_with_the_naive_loop_but_for_roundings(folder):
    runner = ModelRunner(folder, ROWS, "cuda", precision="float32")
    finished = run_together(runner, {row: row for row in range(ROWS)})
    prior = runner.bundle.maskgit
    equal = [
        np.array_equal(image.codes, generate_codes(prior, *image_number(row))[0].cpu().numpy())
        for row, image in finished.items()
    ]
    # A rounding that falls between two codes changes an image now and then: not most of them.
    assert np.mean(equal) >= 0.75


def test_deterministic_images_are_equal_to_the_bit_in_any_company(deterministic):
    assert deterministic.sampler.buckets == (DETERMINISTIC_ENTRIES,)
    assert deterministic.is_batch_invariant()
    crowd = run_together(deterministic, {row: ROWS - 1 - row for row in range(ROWS)})
    for row, number in ((0, 3), (5, 0), (2, 7)):
        alone = run_together(deterministic, {row: number})[row]
        same = crowd[ROWS - 1 - number]
        assert np.array_equal(alone.codes, same.codes)
        assert np.array_equal(alone.pixels(), same.pixels())


def test_images_are_decoded_whole_while_their_rows_are_written_anew(runner):
    for _ in range(20):
        finished = []
        for start in range(4):
            rows = list(range(ROWS))
            for row in rows:
                runner.start(row, row % 3, SamplingParams(steps=1, seed=start * ROWS + row))
            runner.step(rows, [0] * ROWS)
            finished += runner.finish(rows)
        for image in finished:
            # Decoded in company, so a rounding apart from alone.
            alone = runner.decode(image.codes).astype(int)
            assert np.abs(image.pixels().astype(int) - alone).max() <= 2
        assert all(image.ready() for image in finished)
        assert len({image.codes.tobytes() for image in finished}) == len(finished)


def test_who_is_dropped_unread_harms_nobody(runner):
    """A cancelled job's images are thrown away while the device decodes them."""
    for seed in range(30):
        runner.start(0, 1, SamplingParams(steps=1, seed=seed))
        runner.step([0], [0])
        runner.finish([0])
    runner.start(0, 1, SamplingParams(steps=1, seed=1))
    runner.step([0], [0])
    (image,) = runner.finish([0])
    assert np.abs(image.pixels().astype(int) - runner.decode(image.codes).astype(int)).max() <= 2


def test_any_size_that_the_grid_divides_is_encoded_and_decoded(runner):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    codes = runner.encode(pixels)
    assert codes.shape == (2, 6, 10)
    assert runner.decode(codes).shape == (24, 40, 3)
