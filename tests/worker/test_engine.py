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
    for _ in range(6):  # four steps, and the pixels of two images
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


def test_rows_that_cannot_be_finished_together_are_finished_alone():
    engine, runner = engine_of()
    finish = runner.finish

    def narrow(rows):
        if len(rows) > 1 or 2 in [runner.seed_of(row) for row in rows]:
            raise MemoryError("too many images")
        return finish(rows)

    runner.finish = narrow
    outcomes = run(engine, generate("a", seed=1), generate("b", seed=2), generate("c", seed=3))
    assert [outcomes[j].error is None for j in "abc"] == [True, False, True]
    assert outcomes["c"].images[0][0, 0, 0] == 3


class LateImage:
    """Decoded beside the steps, as on CUDA; `ready` when a test says so."""

    def __init__(self, image):
        self.image = image
        self.is_ready = self.was_waited_for = False

    def ready(self):
        return self.is_ready

    def pixels(self):
        self.was_waited_for = not self.is_ready
        return self.image.pixels()


def engine_with_late_images(rows=4):
    engine, runner = engine_of(rows)
    late, finish = [], runner.finish

    def finish_late(rows):
        images = [LateImage(image) for image in finish(rows)]
        late.extend(images)
        return images

    runner.finish = finish_late
    return engine, runner, late


def test_steps_go_on_while_an_image_is_decoded_and_its_row_is_free():
    engine, runner, late = engine_with_late_images(rows=1)
    engine.inbox.put(generate("a", seed=1, steps=1))
    engine.inbox.put(generate("b", seed=2, steps=5))
    for _ in range(4):
        engine.tick()
    assert runner.log == [(0, 1, 0), (0, 2, 0), (0, 2, 1), (0, 2, 2)], "b has a's row, and a's image can wait"
    assert engine.outbox.empty()
    late[0].is_ready = True
    engine.tick()
    assert engine.outbox.get_nowait().work.job_id == "a"
    assert not late[0].was_waited_for


def test_the_oldest_image_is_waited_for_when_there_is_nothing_else_to_do():
    engine, _, late = engine_with_late_images()
    engine.inbox.put(generate("a", steps=1))
    engine.inbox.put(reconstruct("tile", (16, 16)))
    outcomes = run(engine)
    for _ in range(6):
        engine.tick()
    while not engine.outbox.empty():
        outcome = engine.outbox.get_nowait()
        outcomes[outcome.work.job_id] = outcome
    assert list(outcomes) == ["tile", "a"], "tiles are something else to do"
    assert late[0].was_waited_for


def test_a_cancelled_image_is_never_decoded():
    engine, _, late = engine_with_late_images()
    for message in (generate("a", seed=1, steps=1), generate("b", seed=2, steps=9)):
        engine.inbox.put(message)
    engine.tick()
    late[0].pixels = lambda: pytest.fail("nobody wants it")
    late[0].is_ready = True
    engine.inbox.put(Cancel("a"))
    for _ in range(3):
        engine.tick()
    assert engine.outbox.get_nowait().cancelled
    assert engine.outbox.empty()


class SlowRunner(FakeRunner):
    """A device whose every call takes its time, on a clock of its own."""

    def __init__(self, step_s, tile_s):
        super().__init__()
        self.now_s = 100.0
        self.steps_s, self.tiles_s = [], []  # when each began
        self.step_s, self.tile_s = step_s, tile_s

    def clock(self):
        return self.now_s

    def step(self, rows, steps):
        self.steps_s.append(self.now_s)
        super().step(rows, steps)
        self.now_s += self.step_s

    def encode(self, pixels):
        self.tiles_s.append(self.now_s)
        self.now_s += self.tile_s
        return super().encode(pixels)


def slow_engine(**seconds):
    runner = SlowRunner(**seconds)
    return Engine(runner, 4, SilentMetrics(), clock=runner.clock), runner


def encode(job_id, size):
    return Work(job_id, EncodeRequest(image_key="k"), pixels=np.zeros((*size, 3), np.uint8))


def keep_generating(engine, jobs=200):
    for number in range(jobs):
        engine.inbox.put(generate(f"g{number}", seed=number, steps=12))


HUGE = (4000, 4000)


@pytest.mark.parametrize(("tile_s", "until_s"), [(0.001, 5.0), (0.05, 30.0), (2.5, 50.0)])
def test_steps_and_tiles_share_the_device_by_time(tile_s, until_s):
    """Even when a turn of one takes 50 times as long as a turn of the other."""
    engine, runner = slow_engine(step_s=0.05, tile_s=tile_s)
    keep_generating(engine)
    for name in "abc":
        engine.inbox.put(encode(name, HUGE))
    until_s += runner.now_s
    while runner.now_s < until_s:
        engine.tick()
    in_steps, in_tiles = len(runner.steps_s) * 0.05, len(runner.tiles_s) * tile_s
    assert in_steps / (in_steps + in_tiles) == pytest.approx(0.5, abs=0.05)


def test_nobody_waits_for_longer_than_a_turn_of_the_other_kind():
    engine, runner = slow_engine(step_s=0.05, tile_s=2.5)
    keep_generating(engine)
    engine.inbox.put(encode("big", HUGE))
    for _ in range(400):
        engine.tick()
    assert max(np.diff(runner.steps_s)) == pytest.approx(2.55), "a step and one tile"
    assert max(np.diff(runner.tiles_s)) == pytest.approx(5.0, abs=0.06), "a tile and as much of steps"


def test_who_was_idle_has_saved_no_credit():
    engine, runner = slow_engine(step_s=0.05, tile_s=0.05)
    engine.inbox.put(encode("big", HUGE))
    for _ in range(100):
        engine.tick()
    assert len(runner.tiles_s) == 100
    keep_generating(engine)
    for _ in range(40):
        engine.tick()
    assert len(runner.steps_s) == pytest.approx(20, abs=4), (
        "steps made up for the time when nobody asked for them"
    )


def test_a_lone_request_starts_at_once_and_a_newcomer_at_the_next_turn():
    engine, runner = slow_engine(step_s=0.05, tile_s=2.5)
    engine.inbox.put(encode("big", HUGE))
    began_s = runner.now_s
    engine.tick()
    assert runner.tiles_s == [began_s]
    engine.inbox.put(generate("g"))
    engine.tick()
    assert runner.steps_s == [began_s + 2.5], "it waited for the tile at hand, and no longer"


def test_tile_jobs_take_turns():
    engine, _ = engine_of()
    big, small = reconstruct("big", (2000, 2000)), reconstruct("small", (16, 16))
    outcomes = run(engine, big, small, ticks=8)
    assert outcomes.keys() == {"small"}, "one big image starved the others"


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
