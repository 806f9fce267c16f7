"""Same request, same image: alone, in any company, and from the naive loop. Exact, on the CPU."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams
from movq_core.picture import encode_image
from movq_core.protocol import GenerateRequest, ImageFormat
from movq_core.sampling.generate import generate_codes
from tests.movq_core.sampling.random_images import random_class, random_known, random_params
from worker.engine import Engine
from worker.fakes import SilentMetrics
from worker.model_runner import ModelRunner, device_faults, resolve_precision
from worker.work import Outcome, Work

ROOT = Path(__file__).parents[2]
ROWS = 16


@pytest.fixture(scope="module")
def runner(sharp_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    sharp_bundle.save(folder)
    return ModelRunner(folder, ROWS, "cpu")


def random_request(rng):
    return GenerateRequest(class_id=random_class(rng), sampling=random_params(rng))


def images_of(runner, arrivals, known, ticks=400):
    """Run the engine while `arrivals` (tick -> requests) come in; each job's codes and image.

    An image begins with `known[seed]`, as an edit's would.
    """
    codes = {}

    class Watched:
        """The runner, with the finished codes noted on their way to the decoder."""

        def __getattr__(self, name):
            return getattr(runner, name)

        def start(self, row, class_id, sampling, _=None):
            runner.start(row, class_id, sampling, known[sampling.seed])

        def finish(self, rows):
            finished = runner.finish(rows)
            for image in finished:
                codes[runner.decode(image.codes).tobytes()] = image.codes
            return finished

    engine = Engine(Watched(), ROWS, SilentMetrics())
    wanted = sum(len(requests) for requests in arrivals.values())
    outcomes = {}
    for tick in range(ticks):
        for job_id, request in arrivals.get(tick, []):
            engine.inbox.put(Work(job_id, request))
        if arrivals and (engine._jobs or not engine.inbox.empty()):
            engine.tick()
        while not engine.outbox.empty():
            if isinstance(outcome := engine.outbox.get(), Outcome):
                outcomes[outcome.work.job_id] = outcome.images[0]
        if len(outcomes) == wanted:
            break
    assert len(outcomes) == wanted
    return {job_id: (codes[image.tobytes()], image) for job_id, image in outcomes.items()}


@pytest.mark.parametrize("pattern", range(50))
def test_equal_to_the_naive_loop_in_any_company(sharp_bundle, runner, pattern):
    """One request among 15 others with other steps, classes, guidance, orders, maps and arrival times."""
    check_company(sharp_bundle, runner, random.Random(pattern), crowd=16)


def test_the_demo_keeps_the_promise_too():
    """The same on the shipped weights, whose shapes the kernels treat differently."""
    runner = ModelRunner(ROOT / "models" / "emoji-64", ROWS, "cpu")
    for pattern in range(3):
        check_company(runner.bundle, runner, random.Random(pattern), crowd=8)


def test_the_self_check_finds_an_image_that_depends_on_its_company(sharp_bundle, tmp_path):
    sharp_bundle.save(tmp_path)
    runner = ModelRunner(tmp_path, ROWS, "cpu")
    assert runner.is_batch_invariant()
    forward = runner.bundle.maskgit.forward
    runner.bundle.maskgit.forward = lambda codes, class_ids: forward(codes, class_ids) + 1e-6 * len(codes)
    assert not runner.is_batch_invariant()


def check_company(bundle, runner, rng, crowd):
    """Every request of a crowd equals the naive loop; one of them also alone, as bytes."""
    requests = {f"job-{i}": random_request(rng) for i in range(crowd)}
    maps = {request.sampling.seed: random_known(rng, bundle.manifest.movq) for request in requests.values()}
    known = {seed: None if codes is None else codes.numpy() for seed, codes in maps.items()}
    arrivals = {}
    for job_id, request in requests.items():
        arrivals.setdefault(rng.randrange(12), []).append((job_id, request))

    together = images_of(runner, arrivals, known)

    for job_id, request in requests.items():
        codes, pixels = together[job_id]
        its_map = maps[request.sampling.seed]
        batch = None if its_map is None else its_map[None]
        expected = generate_codes(bundle.maskgit, request.class_id, request.sampling, batch)
        assert np.array_equal(codes, expected[0].numpy()), f"{job_id}: codes differ"
        assert np.array_equal(pixels, runner.decode(codes)), f"{job_id}: pixels differ from their own decode"
        assert greatest_difference(pixels, plain_decode(bundle, expected)) <= 1, f"{job_id}: pixels differ"
    chosen = rng.choice(list(requests))
    alone = images_of(runner, {0: [(chosen, requests[chosen])]}, known)[chosen][1]
    for image_format in ImageFormat:
        assert encode_image(alone, image_format) == encode_image(together[chosen][1], image_format)


def plain_decode(bundle, codes):
    """The plain module's pixels of codes (1, C, H, W): the served form may be faster, and a rounding off."""
    with torch.inference_mode():
        pixels = bundle.movq.decode_codes(codes)[0].add(1.0).mul(127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).numpy()


def greatest_difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).max()


def test_encode_and_decode_are_the_models_own(sharp_bundle, runner):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 40, 3), np.uint8)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(127.5).sub(1.0)
    with torch.inference_mode():
        expected = sharp_bundle.movq.encode_codes(batch)[0].numpy()
    assert np.array_equal(runner.encode(pixels), expected)
    assert runner.decode(expected).shape == (24, 40, 3)


def test_a_step_that_raises_writes_nothing_and_those_who_can_go_on(sharp_bundle, runner):
    good = SamplingParams(steps=2, seed=1)
    runner.start(0, 1, good)
    runner.start(1, 99, SamplingParams(steps=2, seed=2))  # no such class: the service refuses it long before
    before = runner.sampler.codes([0, 1])
    with pytest.raises(IndexError):
        runner.step([0, 1], [0, 0])
    assert torch.equal(runner.sampler.codes([0, 1]), before)
    runner.step([0], [0])
    runner.step([0], [1])
    (image,) = runner.finish([0])
    assert np.array_equal(image.codes, generate_codes(sharp_bundle.maskgit, 1, good)[0].numpy())


def test_a_finished_image_is_not_touched_by_who_has_its_row_next(runner):
    for row in range(2):
        runner.start(row, row, SamplingParams(steps=1, seed=row))
    runner.step([0, 1], [0, 0])
    images = runner.finish([1, 0])
    expected = [runner.decode(image.codes.copy()) for image in images]
    runner.start(0, 2, SamplingParams(steps=1, seed=7))
    runner.start(1, 2, SamplingParams(steps=1, seed=8))
    runner.step([0, 1], [0, 0])
    for image, pixels in zip(images, expected, strict=True):
        assert image.ready()
        assert np.array_equal(image.pixels(), pixels)
    assert not np.array_equal(expected[0], expected[1])


def test_a_preview_shows_a_row_and_leaves_it_as_it_is(sharp_bundle, runner):
    params = SamplingParams(steps=4, seed=5)
    runner.start(3, 1, params)
    opaque = []
    for step in range(4):
        runner.step([3], [step])
        before = runner.sampler.codes([3])
        preview = runner.preview(3)
        assert preview.shape == (16, 16, 4)
        assert torch.equal(runner.sampler.codes([3]), before)
        opaque.append(preview[..., 3].mean())
    (image,) = runner.finish([3])
    assert np.array_equal(image.codes, generate_codes(sharp_bundle.maskgit, 1, params)[0].numpy())
    assert np.array_equal(preview[..., :3], image.pixels())
    assert opaque == sorted(set(opaque))
    assert opaque[-1] == 255


def test_known_codes_stay_and_the_others_are_made(sharp_bundle, runner):
    rng = np.random.default_rng(0)
    known = np.where(rng.random((2, 4, 4)) < 0.5, 32, rng.integers(0, 32, (2, 4, 4)))
    before = known.copy()
    params = SamplingParams(steps=3, seed=5)
    runner.start(0, 1, params, known)
    for step in range(3):
        runner.step([0], [step])
    (image,) = runner.finish([0])
    expected = generate_codes(sharp_bundle.maskgit, 1, params, torch.from_numpy(before)[None])
    assert np.array_equal(image.codes, expected[0].numpy())
    assert np.array_equal(image.codes[before != 32], before[before != 32])
    assert np.array_equal(known, before), "what the caller holds was written to"


def test_a_decode_that_raises_fails_alone(runner):
    runner.start(0, 1, SamplingParams(steps=1))
    runner.start(1, 1, SamplingParams(steps=1))
    runner.step([0, 1], [0, 0])
    good, bad = runner.finish([0, 1])
    bad.codes[:] = 10_000  # no such code
    with pytest.raises(IndexError):
        bad.pixels()
    assert good.pixels().shape == (16, 16, 3)


def test_deterministic_changes_nothing_on_the_cpu(sharp_bundle, runner, tmp_path):
    sharp_bundle.save(tmp_path)
    deterministic = ModelRunner(tmp_path, ROWS, "cpu", deterministic=True)
    assert deterministic.sampler.buckets is runner.sampler.buckets is None


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.bfloat16),
        ("float32", "cuda", torch.float32),
        ("bfloat16", "cpu", torch.bfloat16),
    ],
)
def test_auto_is_the_precision_that_suits_the_device(name, device, dtype):
    assert resolve_precision(name, torch.device(device)) == dtype


def test_a_bundle_runs_in_bfloat16(sharp_bundle, tmp_path):
    """As on a GPU; slow here. Alone and without guidance the batch is the naive loop's own."""
    sharp_bundle.save(tmp_path)
    runner = ModelRunner(tmp_path, 2, "cpu", precision="bfloat16")
    params = SamplingParams(steps=6, seed=3)
    runner.start(0, 1, params)
    for step in range(6):
        runner.step([0], [step])
    (image,) = runner.finish([0])
    assert runner.bundle.maskgit.place.dtype == torch.bfloat16
    assert np.array_equal(image.codes, generate_codes(runner.bundle.maskgit, 1, params)[0].numpy())
    assert (
        greatest_difference(image.pixels(), plain_decode(sharp_bundle, torch.tensor(image.codes)[None])) < 64
    )


def test_only_a_lack_of_memory_on_a_gpu_is_not_the_end():
    def raised_on(device, error):
        with device_faults(torch.device(device)):
            raise error

    with pytest.raises(DeviceFault, match="illegal memory access"):
        raised_on("cuda", RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(torch.OutOfMemoryError):
        raised_on("cuda", torch.OutOfMemoryError("no room"))
    with pytest.raises(RuntimeError, match="ours"):
        raised_on("cpu", RuntimeError("ours"))
