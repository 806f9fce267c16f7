"""Engine: policy, on a device of a few lines."""

import queue
import time

import numpy as np
import pytest

from movq_core.errors import DeviceFault
from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import DecodeRequest, EncodeRequest, GenerateRequest, ReconstructRequest
from worker.engine import Engine
from worker.fakes import FakeRunner, SilentMetrics
from worker.work import Cancel, Work


def generate(job_id, seed=1, steps=3, num_images=1):
    sampling = SamplingParams(steps=steps, seed=seed)
    return Work(job_id, GenerateRequest(num_images=num_images, sampling=sampling))


def reconstruct(job_id, size=(300, 300)):
    return Work(job_id, ReconstructRequest(image_key="k"), pixels=np.zeros((*size, 3), np.uint8))


def engine_of(rows=4, **fake):
    runner = FakeRunner(**fake)
    return Engine(runner, rows, SilentMetrics()), runner


def run(engine, *messages, ticks=200):
    """Tick until all that went in came out (or `ticks` are over); the outcomes by job."""
    for message in messages:
        engine.inbox.put(message)
    wanted = sum(isinstance(m, Work) for m in messages)
    outcomes = []
    for _ in range(ticks):
        engine.tick()
        while not engine.outbox.empty():
            outcomes.append(engine.outbox.get())
        if len(outcomes) == wanted:
            break
    assert len({o.work.job_id for o in outcomes}) == len(outcomes), "two outcomes of one job"
    return {o.work.job_id: o for o in outcomes}


def test_each_image_of_a_job_has_its_seed_and_comes_in_order():
    engine, _ = engine_of(rows=2)
    outcome = run(engine, generate("a", seed=7, num_images=5))["a"]
    assert outcome.seeds == tuple(derived_seed(7, i) for i in range(5))
    assert [int(image[0, 0, 0]) for image in outcome.images] == [s % 256 for s in outcome.seeds]
    assert outcome.error is None
    assert 0 < outcome.started_s <= outcome.finished_s


def test_newcomers_join_between_two_steps():
    engine, runner = engine_of()
    engine.inbox.put(generate("old", seed=1, steps=6))
    engine.tick()
    engine.tick()
    run(engine, generate("new", seed=2, steps=3))
    engine.tick()
    old = [step for _, seed, step in runner.log if seed == 1]
    assert old == list(range(6))
    assert runner.log[2:4] == [(0, 1, 2), (1, 2, 0)], "the newcomer's step 0 beside the veteran's step 2"


def test_more_jobs_than_rows_wait_and_all_finish():
    engine, runner = engine_of(rows=3)
    outcomes = run(engine, *(generate(f"job-{i}", seed=i) for i in range(20)))
    assert len(outcomes) == 20
    assert max(runner.batches) == 3
    assert runner.batches == [3] * 18 + [2] * 3, "a row stood empty while somebody waited"


def test_a_cancelled_job_ends_alone_and_its_row_is_free_at_once():
    engine, runner = engine_of(rows=2)
    for message in (generate("a", seed=1, steps=50), generate("b", seed=2, steps=4), generate("c", seed=3)):
        engine.inbox.put(message)
    engine.tick()
    engine.inbox.put(Cancel("a"))
    for _ in range(4):
        engine.tick()
    outcomes = [engine.outbox.get_nowait() for _ in range(3)]
    assert [(o.work.job_id, o.cancelled, len(o.images)) for o in outcomes] == [
        ("a", True, 0),
        ("c", False, 1),  # took the free row at once: three steps beside the last three of b
        ("b", False, 1),
    ]
    assert [step for _, seed, step in runner.log if seed == 1] == [0], "the cancelled row took another step"


def test_cancelling_what_is_not_there_says_nothing():
    engine, _ = engine_of()
    outcomes = run(engine, generate("a"))
    engine.inbox.put(Cancel("a"))
    engine.tick()
    assert outcomes["a"].images
    with pytest.raises(queue.Empty):
        engine.outbox.get_nowait()


def test_a_poisonous_row_fails_alone():
    def poison(seeds):
        if 13 in seeds:
            raise ValueError("row 13 is poisonous")

    engine, _ = engine_of(before_step=poison)
    outcomes = run(engine, *(generate(f"job-{seed}", seed=seed) for seed in (11, 12, 13, 14)))
    assert str(outcomes["job-13"].error) == "row 13 is poisonous"
    for seed in (11, 12, 14):
        assert outcomes[f"job-{seed}"].error is None
        assert int(outcomes[f"job-{seed}"].images[0][0, 0, 0]) == seed


def test_a_poisonous_image_takes_its_whole_job_and_no_other():
    bad = derived_seed(5, 1)

    def poison(seeds):
        if bad in seeds:
            raise ValueError("bad image")

    engine, _ = engine_of(rows=8, before_step=poison)
    outcomes = run(engine, generate("three", seed=5, num_images=3), generate("other", seed=1))
    assert outcomes["three"].error is not None
    assert outcomes["other"].images


def test_a_decode_that_raises_fails_its_job_alone():
    engine, runner = engine_of()
    decode = runner.decode

    def broken(codes):
        if codes.flat[0] == 2:
            raise ValueError("cannot decode")
        return decode(codes)

    runner.decode = broken
    outcomes = run(engine, generate("a", seed=1), generate("b", seed=2), generate("c", seed=3))
    assert [outcomes[j].error is None for j in "abc"] == [True, False, True]


def test_tiles_take_turns_with_steps_and_with_each_other():
    engine, runner = engine_of()
    big, small = reconstruct("big", (2000, 2000)), reconstruct("small", (16, 16))
    outcomes = run(engine, big, small, generate("g", steps=8), ticks=12)
    assert outcomes.keys() == {"small", "g"}, "one big image starved the others"
    assert len(runner.log) == 8


def test_an_image_goes_through_whole_when_its_caller_says_so():
    engine, runner = engine_of()
    sizes = []
    encode = runner.encode

    def noted(pixels):
        sizes.append(pixels.shape[:2])
        return encode(pixels)

    runner.encode = noted
    pixels = np.zeros((600, 400, 3), np.uint8)
    whole = ReconstructRequest(image_key="k", tiling="whole")
    outcomes = run(engine, Work("whole", whole, pixels=pixels), ticks=5)
    assert outcomes["whole"].images[0].shape == (600, 400, 3)
    assert sizes == [(600, 400)]


def test_encode_decode_and_reconstruct():
    engine, _ = engine_of()
    pixels = np.full((10, 6, 3), 9, np.uint8)
    codes = np.full((2, 3, 2), 9, np.int64)
    outcomes = run(
        engine,
        Work("encode", EncodeRequest(image_key="k"), pixels=pixels),
        Work("decode", DecodeRequest(codes_key="k"), codes=codes, size=(10, 6)),
        Work("reconstruct", ReconstructRequest(image_key="k"), pixels=pixels),
    )
    assert np.array_equal(outcomes["encode"].codes, codes)
    assert np.array_equal(outcomes["decode"].images[0], pixels)
    assert np.array_equal(outcomes["reconstruct"].images[0], pixels)


def test_a_device_fault_ends_the_thread_and_is_kept():
    def fault(seeds):
        raise DeviceFault("an illegal memory access was encountered")

    engine, _ = engine_of(before_step=fault)
    engine.inbox.put(generate("a"))
    engine.start()
    deadline = time.monotonic() + 10
    while engine.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(engine.error, DeviceFault)
    assert engine.outbox.empty(), "a job must not be failed for its device's fault"


def test_starts_and_stops():
    engine, _ = engine_of()
    engine.start()
    engine.inbox.put(generate("a"))
    assert engine.outbox.get(timeout=10).images
    engine.stop(timeout_s=10)
    assert not engine.is_alive()
    assert engine.error is None
