"""Same request, same image: alone, in any company, and from the naive loop. Exact, on the CPU."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from movq_core.params import MaskSchedule, SamplingParams
from movq_core.protocol import GenerateRequest, ImageFormat
from movq_core.sampling.generate import generate_codes
from worker.engine import Engine
from worker.fakes import SilentMetrics
from worker.images import encode_image
from worker.model_runner import ModelRunner
from worker.work import Work

ROOT = Path(__file__).parents[2]
ROWS = 16


@pytest.fixture(scope="module")
def runner(sharp_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    sharp_bundle.save(folder)
    return ModelRunner(folder, ROWS, "cpu")


def random_request(rng):
    return GenerateRequest(
        class_id=rng.choice([None, 0, 1, 2]),
        sampling=SamplingParams(
            steps=rng.randint(1, 12),
            seed=rng.randrange(2**53),
            temperature=rng.uniform(0.5, 1.5),
            choice_temperature=rng.uniform(0.0, 5.0),
            guidance_scale=rng.choice([1.0, 1.0, 2.5, 4.0]),
            mask_schedule=rng.choice(list(MaskSchedule)),
        ),
    )


def oracle(bundle, request):
    """The naive loop's image, as the worker would have decoded it."""
    codes = generate_codes(bundle.maskgit, request.class_id, request.sampling)
    with torch.inference_mode():
        pixels = bundle.movq.decode_codes(codes)[0].add(1.0).mul(127.5).round().to(torch.uint8)
    return codes[0].numpy(), pixels.permute(1, 2, 0).numpy()


def images_of(runner, arrivals, ticks=400):
    """Run the engine while `arrivals` (tick -> requests) come in; each job's codes and image."""
    codes = {}

    class Watched:
        """The runner, with the finished codes noted on their way to the decoder."""

        def __getattr__(self, name):
            return getattr(runner, name)

        def decode(self, finished):
            pixels = runner.decode(finished)
            codes[pixels.tobytes()] = finished
            return pixels

    engine = Engine(Watched(), ROWS, SilentMetrics())
    wanted = sum(len(requests) for requests in arrivals.values())
    outcomes = {}
    for tick in range(ticks):
        for job_id, request in arrivals.get(tick, []):
            engine.inbox.put(Work(job_id, request))
        if arrivals and (engine._jobs or not engine.inbox.empty()):
            engine.tick()
        while not engine.outbox.empty():
            outcome = engine.outbox.get()
            outcomes[outcome.work.job_id] = outcome.images[0]
        if len(outcomes) == wanted:
            break
    assert len(outcomes) == wanted
    return {job_id: (codes[image.tobytes()], image) for job_id, image in outcomes.items()}


@pytest.mark.parametrize("pattern", range(50))
def test_equal_to_the_naive_loop_in_any_company(sharp_bundle, runner, pattern):
    """One request among 15 others with other steps, classes, guidance and arrival times."""
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
    arrivals = {}
    for job_id, request in requests.items():
        arrivals.setdefault(rng.randrange(12), []).append((job_id, request))

    together = images_of(runner, arrivals)

    for job_id, request in requests.items():
        codes, pixels = oracle(bundle, request)
        assert np.array_equal(together[job_id][0], codes), f"{job_id}: codes differ"
        assert np.array_equal(together[job_id][1], pixels), f"{job_id}: pixels differ"
    chosen = rng.choice(list(requests))
    alone = images_of(runner, {0: [(chosen, requests[chosen])]})[chosen][1]
    for image_format in ImageFormat:
        assert encode_image(alone, image_format) == encode_image(together[chosen][1], image_format)


def test_encode_and_decode_are_the_models_own(sharp_bundle, runner):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 40, 3), np.uint8)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(127.5).sub(1.0)
    with torch.inference_mode():
        expected = sharp_bundle.movq.encode_codes(batch)[0].numpy()
    assert np.array_equal(runner.encode(pixels), expected)
    assert runner.decode(expected).shape == (24, 40, 3)


def test_a_step_that_raises_writes_nothing(runner):
    runner.start(0, 1, SamplingParams(steps=4, seed=1))
    runner.start(1, 1, SamplingParams(steps=4, seed=2))
    before = runner._codes.clone()
    with pytest.raises(IndexError):
        runner.step([0, 1], [0, 99])
    assert torch.equal(runner._codes, before)
    runner.finish(0)
    runner.finish(1)
