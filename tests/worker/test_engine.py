"""Engine: policy, on a device of a few lines."""

import queue
import time
import weakref

import numpy as np
import pytest

from movq_core.errors import DeviceFault, InvalidRequest
from movq_core.params import SamplingParams, derived_seed
from movq_core.protocol import (
    DecodeRequest,
    EditRequest,
    EncodeRequest,
    GenerateRequest,
    ReconstructRequest,
)
from movq_core.sampling.schedule import mask_plan
from movq_core.window import Window
from worker.engine import Engine
from worker.fakes import TINY, FakeRunner, SilentMetrics
from worker.work import Cancel, Exchange, Outcome, Preview, Progress, Watch, Work


def generate(job_id, seed=1, steps=3, num_images=1, *, watched=False, class_id=None):
    sampling = SamplingParams(steps=steps, seed=seed)
    request = GenerateRequest(num_images=num_images, sampling=sampling, class_id=class_id, owner="anna")
    return Work(job_id, request, watched=watched)


def reconstruct(job_id, size=(300, 300)):
    return Work(job_id, ReconstructRequest(image_key="k"), pixels=np.zeros((*size, 3), np.uint8))


def engine_of(rows=4, **fake):
    runner = FakeRunner(**fake)
    return Engine(runner, rows, SilentMetrics()), runner


def run(engine, *messages, ticks=200):
    """Tick until all that ever went in came out (or `ticks` are over); the outcomes by job."""
    return run_and_hear(engine, *messages, ticks=ticks)[0]


def run_and_hear(engine, *messages, ticks=200):
    """The same, and what those who watch were told before."""
    for message in messages:
        engine.inbox.put(message)
    outcomes, told = [], []
    for _ in range(ticks):
        if not engine._jobs and engine.inbox.empty():
            break
        engine.tick()
    while not engine.outbox.empty():
        news = engine.outbox.get()
        (outcomes if isinstance(news, Outcome) else told).append(news)
    assert len({o.work.job_id for o in outcomes}) == len(outcomes), "two outcomes of one job"
    return {o.work.job_id: o for o in outcomes}, told


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

    def __init__(self, step_s, tile_s, preview_s=0.0):
        super().__init__()
        self.now_s = 100.0
        self.steps_s, self.tiles_s = [], []  # when each began
        self.step_s, self.tile_s, self.preview_s = step_s, tile_s, preview_s

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

    def preview(self, row):
        self.now_s += self.preview_s
        return super().preview(row)


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


# -- what a bundle cannot do --------------------------------------------------------------------


def test_what_the_bundle_cannot_do_fails_alone_and_never_reaches_the_device():
    engine, runner = engine_of()
    outcomes = run(
        engine,
        generate("fourth", seed=13, class_id=3),
        Work("large", DecodeRequest(codes_key="k"), codes=np.full((2, 4, 4), 32), size=(16, 16)),
        Work("shape", DecodeRequest(codes_key="k"), codes=np.full((3, 4, 4), 0), size=(16, 16)),
        generate("good", seed=1, class_id=2),
    )
    assert str(outcomes["fourth"].error) == "class_id is 3; tiny has 0 to 2, or none"
    assert str(outcomes["large"].error) == "codes must be 0 to 31"
    assert "codes of shape [3, 4, 4]" in str(outcomes["shape"].error)
    assert all(isinstance(outcomes[job].error, InvalidRequest) for job in ("fourth", "large", "shape"))
    assert outcomes["good"].error is None
    assert {seed for _, seed, _ in runner.log} == {1}


def test_a_bundle_without_a_prior_makes_no_images():
    engine, runner = engine_of()
    runner.manifest = TINY.model_copy(update={"maskgit": None, "labels": ()})
    engine = Engine(runner, 4, SilentMetrics())
    outcomes = run(engine, generate("a"), edit("b"), encode("c", (16, 16)))
    assert "tiny has no prior: it can only" in str(outcomes["a"].error)
    assert isinstance(outcomes["b"].error, InvalidRequest)
    assert outcomes["c"].error is None


# -- edits --------------------------------------------------------------------------------------


def edit(job_id, seed=20, num_images=1, steps=3, *, strength=1.0, watched=False):
    """Of a grey image of 5 everywhere, its four cells in the upper left corner."""
    image, mask = np.full((16, 16, 3), 5, np.uint8), np.zeros((16, 16), bool)
    mask[1:7, 3:8] = True
    request = EditRequest(
        image_key="k",
        mask_key="m",
        num_images=num_images,
        strength=strength,
        sampling=SamplingParams(steps=steps, seed=seed),
    )
    window = Window.around(image, mask, 16, request.feather_px)
    return Work(
        job_id,
        request,
        pixels=window.pixels(16),
        mask=window.touched(16),
        window=window,
        watched=watched,
    )


def test_an_edit_keeps_the_codes_outside_its_mask():
    engine, _ = engine_of()
    outcome = run(engine, edit("e", seed=20, num_images=2), generate("g"), reconstruct("r"))["e"]
    assert outcome.seeds == (20, derived_seed(20, 1))
    expected = np.full((2, 4, 4), 5)
    expected[:, :2, :2] = 20
    assert np.array_equal(outcome.codes, expected), "the first image's"
    for image, seed in zip(outcome.images, outcome.seeds, strict=True):
        assert (image[:8, :8] == seed % 256).all()
        assert (image[8:] == 5).all()
        assert (image[:, 8:] == 5).all()
    assert outcome.manifest is TINY
    assert 0 < outcome.started_s <= outcome.finished_s


def test_a_share_of_the_codes_is_made_anew_another_for_each_image():
    engine, runner = engine_of()
    known, start = [], runner.start

    def noted(row, class_id, sampling, codes):
        known.append(codes)
        start(row, class_id, sampling, codes)

    runner.start = noted
    run(engine, edit("e", num_images=2, strength=0.5))
    for codes in known:
        assert (codes == 32).sum() == 4, "half of the eight codes under the mask"
        assert (codes[:, 2:] == 5).all()
    assert not np.array_equal(*known)


def test_an_edit_takes_one_turn_of_tiles_and_then_rows():
    engine, runner = engine_of()
    sizes, encode = [], runner.encode

    def noted(pixels):
        sizes.append(pixels.shape)
        return encode(pixels)

    runner.encode = noted
    run(engine, edit("e", num_images=3, steps=4))
    assert sizes == [(16, 16, 3)]
    assert runner.batches == [3] * 4


def test_an_edit_whose_window_cannot_be_encoded_fails_alone():
    engine, runner = engine_of()
    runner.encode = lambda pixels: 1 / 0
    outcomes = run(engine, edit("e"), generate("g"))
    assert isinstance(outcomes["e"].error, ZeroDivisionError)
    assert outcomes["g"].error is None


@pytest.mark.parametrize("ticks", range(6))
def test_an_edit_is_cancelled_at_any_time(ticks):
    engine, _ = engine_of()
    engine.inbox.put(edit("e"))
    for _ in range(ticks):
        engine.tick()
    finished = not engine.outbox.empty()
    engine.inbox.put(Cancel("e"))
    engine.inbox.put(generate("g"))
    outcomes = run(engine, ticks=8)
    if not finished:
        assert outcomes["e"].cancelled
    assert outcomes["g"].images
    assert not any([engine._jobs, engine._image_jobs, engine._tile_jobs])


# -- watching -----------------------------------------------------------------------------------


def test_a_watched_job_tells_its_steps_and_no_other_does():
    engine, _ = engine_of()
    _, told = run_and_hear(
        engine,
        generate("watched", seed=1, steps=4, num_images=2, watched=True),
        generate("other", seed=9, steps=6),
    )
    progress = [news for news in told if isinstance(news, Progress)]
    assert [(p.job_id, p.taken, p.steps) for p in progress] == [
        ("watched", taken, 8) for taken in (2, 4, 6, 8)
    ]
    plan = mask_plan(SamplingParams().mask_schedule, 4, 32)
    assert [p.known for p in progress] == pytest.approx([1 - masked / 32 for masked in plan])


def test_a_job_that_nobody_watches_tells_its_progress_once_a_second():
    now_s = [100.0]

    def take_time(seeds):
        now_s[0] += 0.4

    runner = FakeRunner(before_step=take_time)
    engine = Engine(runner, 4, SilentMetrics(), clock=lambda: now_s[0])
    _, told = run_and_hear(engine, generate("a", steps=7))
    assert [(news.job_id, news.taken, news.steps) for news in told] == [("a", 3, 7), ("a", 6, 7)]


def test_images_that_wait_for_a_row_count_in_their_jobs_progress():
    engine, _ = engine_of(rows=1)
    _, told = run_and_hear(engine, generate("a", steps=2, num_images=2, watched=True))
    progress = [(news.taken, news.steps) for news in told if isinstance(news, Progress)]
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_edit_begins_with_what_it_keeps():
    engine, _ = engine_of()
    _, told = run_and_hear(engine, edit("e", steps=2, watched=True))
    masked = mask_plan(SamplingParams().mask_schedule, 2, 8)
    known = [news.known for news in told if isinstance(news, Progress)]
    assert known == pytest.approx([1 - masked[0] / 32, 1.0])


def test_watching_may_begin_and_end_at_any_time():
    engine, runner = engine_of()
    engine.inbox.put(generate("a", steps=9))
    heard = []
    for message in (None, Watch("a", watched=True), None, Watch("a", watched=False), None, None):
        if message:
            engine.inbox.put(message)
        taken = len(runner.log)
        while len(runner.log) == taken:
            engine.tick()
        heard.append(sum(isinstance(engine.outbox.get(), Progress) for _ in range(engine.outbox.qsize())))
    assert heard == [0, 1, 1, 0, 0, 0]


def test_who_watches_what_is_not_there_is_forgotten():
    engine, _ = engine_of()
    _, told = run_and_hear(
        engine, Watch("late", watched=True), generate("a", watched=True), Watch("gone", watched=False)
    )
    assert not engine._watched, "the job has ended"
    engine.inbox.put(Watch("a", watched=True))
    run(engine, generate("late"))
    assert not engine._watched
    assert {news.job_id for news in told} == {"a"}


def test_without_a_watcher_nothing_is_previewed():
    engine, runner = engine_of()
    _, told = run_and_hear(engine, generate("a", steps=20), edit("e", steps=20))
    assert (told, runner.previewed) == ([], [])


def test_previews_may_be_turned_off():
    runner = FakeRunner()
    engine = Engine(runner, 4, SilentMetrics(), previews=False)
    _, told = run_and_hear(engine, generate("a", steps=5, watched=True))
    assert [type(news) for news in told] == [Progress] * 5
    assert not runner.previewed


def test_a_preview_shows_a_watched_image_after_each_step_at_most_once():
    """Even when it costs nothing."""
    engine, runner = slow_engine(step_s=0.05, tile_s=0.05)
    outcomes, told = run_and_hear(
        engine, generate("a", seed=7, steps=40, watched=True), generate("b", seed=8, steps=40)
    )
    previews = [news for news in told if isinstance(news, Preview)]
    assert previews
    assert {(p.job_id, p.index, p.owner) for p in previews} == {("a", 0, "anna")}
    assert [p.step for p in previews] == list(range(1, 40)), "after the last one the image itself comes"
    assert runner.previewed == [(7, p.step) for p in previews]
    assert all(p.pixels.shape == (16, 16, 4) for p in previews)
    plan = mask_plan(SamplingParams().mask_schedule, 40, 32)
    assert [p.known for p in previews] == pytest.approx([1 - plan[p.step - 1] / 32 for p in previews])
    assert outcomes["a"].error is None


def test_watched_images_are_shown_in_turn():
    engine, runner = slow_engine(step_s=0.05, tile_s=0.05, preview_s=0.05)
    for number in range(3):
        engine.inbox.put(generate(f"job-{number}", seed=number, steps=64, watched=True))
    while len(runner.previewed) < 12:
        engine.tick()
    assert [seed for seed, _ in runner.previewed] == [0, 1, 2] * 4


def test_a_watched_image_is_the_same_as_an_unwatched_one():
    jobs = [generate("a", seed=7, steps=9), edit("e", steps=9), generate("b", seed=8, steps=5)]
    engine, quiet = engine_of(rows=2)
    expected = run(engine, *jobs)
    engine, watched = engine_of(rows=2)
    outcomes = run(engine, *jobs, *(Watch(job.job_id, watched=True) for job in jobs))
    assert watched.previewed
    assert not quiet.previewed
    for job_id, outcome in expected.items():
        assert np.array_equal(outcome.images, outcomes[job_id].images)


def test_who_watches_changes_no_step_and_no_company():
    jobs = [generate(f"job-{seed}", seed=seed, steps=5 + seed, num_images=2) for seed in range(5)]
    engine, quiet = engine_of(rows=3)
    run(engine, *jobs)
    engine, watched = engine_of(rows=3)
    run(engine, *jobs, Watch("job-1", watched=True), Watch("job-3", watched=True))
    assert watched.previewed
    assert (watched.log, watched.batches) == (quiet.log, quiet.batches)


def test_a_preview_that_raises_harms_nobody():
    engine, runner = engine_of()
    runner.preview = lambda row: 1 / 0
    outcomes, told = run_and_hear(engine, generate("a", steps=9, watched=True))
    assert outcomes["a"].error is None
    assert {type(news) for news in told} == {Progress}


@pytest.mark.parametrize("preview_s", [0.01, 0.05, 0.5])
def test_previews_cost_the_others_a_seventh_of_the_device_and_no_more(preview_s):
    engine, runner = slow_engine(step_s=0.05, tile_s=0.05, preview_s=preview_s)
    for number in range(40):
        engine.inbox.put(generate(f"g{number}", seed=number, steps=64, watched=True))
    for name in "abc":
        engine.inbox.put(encode(name, HUGE))
    until_s = runner.now_s + 60
    while runner.now_s < until_s:
        engine.tick()
    shares = [len(runner.steps_s) * 0.05, len(runner.tiles_s) * 0.05, len(runner.previewed) * preview_s]
    assert [share / sum(shares) for share in shares] == pytest.approx([3 / 7, 3 / 7, 1 / 7], abs=0.02)


def test_a_cancelled_job_frees_its_row_within_two_steps_and_changes_nobody():
    """Whoever comes at whatever moment; a cancelled job's images are never finished."""
    neighbours = [generate(f"n{seed}", seed=seed, steps=12) for seed in (1, 2, 3)]
    expected = run(engine_of()[0], *neighbours)
    for moment in range(12):
        engine, runner = engine_of()
        for message in (*neighbours, generate("gone", seed=99, steps=64, watched=True)):
            engine.inbox.put(message)
        while len(runner.batches) < moment:
            engine.tick()
        engine.inbox.put(Cancel("gone"))
        outcomes = run(engine, generate("next", seed=50, steps=3))
        cancelled = [step for _, seed, step in runner.log if seed == 99]
        first = next(at for at, (_, seed, _) in enumerate(runner.log) if seed == 50)
        batches_before = sum(1 for _, seed, _ in runner.log[:first] if seed == 1)
        assert len(cancelled) == moment, "it took another step"
        assert batches_before - moment <= 2, "its row was not free"
        assert outcomes["gone"].cancelled
        assert outcomes["next"].images
        for job_id, outcome in expected.items():
            assert np.array_equal(outcomes[job_id].images, outcome.images)


# -- another bundle -----------------------------------------------------------------------------


def other_runner(**changes):
    runner = FakeRunner()
    runner.manifest = TINY.model_copy(update={"name": "other", **changes})
    return runner


def test_what_has_begun_ends_with_the_old_bundle_and_what_waits_begins_with_the_new():
    engine, old = engine_of(rows=2)
    begun = [generate("g", seed=1, steps=5, num_images=3), edit("e", seed=2), encode("t", (600, 300))]
    for message in begun:
        engine.inbox.put(message)
    for _ in range(3):
        engine.tick()
    new = other_runner()
    later = [generate("g2", seed=3), edit("e2", seed=4), encode("t2", (16, 16))]
    waiting = generate("w", seed=9, num_images=2)
    outcomes = run(engine, Exchange(new), *later, waiting, ticks=400)
    made_by = {job_id: outcome.manifest.name for job_id, outcome in outcomes.items()}
    assert made_by == dict.fromkeys("get", "tiny") | dict.fromkeys(("g2", "e2", "t2", "w"), "other")
    assert all(outcome.error is None for outcome in outcomes.values())
    assert {seed for _, seed, _ in old.log}.isdisjoint({seed for _, seed, _ in new.log})


def test_a_job_that_waits_for_a_row_waits_for_the_new_bundle():
    engine, old = engine_of(rows=1)
    engine.inbox.put(generate("a", seed=1, steps=3))
    engine.inbox.put(generate("b", seed=2))
    engine.tick()
    new = other_runner()
    engine.inbox.put(Exchange(new))
    outcomes = run(engine, generate("c", seed=3))
    assert {seed for _, seed, _ in old.log} == {1}
    assert [seed for _, seed, _ in new.log] == [2] * 3 + [3] * 3, "first come, first served"
    assert outcomes.keys() == {"a", "b", "c"}


def test_an_idle_engine_exchanges_at_once_and_lets_go_of_the_old_runner():
    engine, old = engine_of()
    run(engine, generate("a"))
    released = weakref.ref(old)
    engine.inbox.put(Exchange(other_runner()))
    engine.tick()
    del old
    assert released() is None
    assert run(engine, generate("b"))["b"].manifest.name == "other"


def test_what_no_longer_fits_after_an_exchange_fails_alone():
    engine, _ = engine_of()
    engine.inbox.put(generate("old", class_id=2, steps=9))
    engine.tick()
    small = TINY.movq.model_copy(update={"codebook_size": 8})
    engine.inbox.put(Exchange(other_runner(movq=small, labels=("one",))))
    outcomes = run(
        engine,
        generate("class", class_id=2),
        Work("codes", DecodeRequest(codes_key="k"), codes=np.full((2, 4, 4), 9), size=(16, 16)),
        generate("fits", class_id=0),
    )
    assert str(outcomes["class"].error) == "class_id is 2; other has 0 to 0, or none"
    assert str(outcomes["codes"].error) == "codes must be 0 to 7"
    assert [outcomes[job].error for job in ("old", "fits")] == [None, None]


def test_an_edit_cut_for_a_bundle_of_another_size_goes_back_to_be_loaded_anew():
    engine, _ = engine_of()
    larger = TINY.movq.model_copy(update={"image_size": 32})
    engine.inbox.put(Exchange(other_runner(movq=larger)))
    assert run(engine, edit("e"))["e"].cancelled


def test_cancelling_and_watching_reach_what_waits_for_an_exchange():
    engine, _ = engine_of(rows=1)
    engine.inbox.put(generate("a", steps=9))
    engine.tick()
    for message in (Exchange(other_runner()), generate("b"), generate("c", seed=3)):
        engine.inbox.put(message)
    engine.tick()
    for message in (Cancel("b"), Watch("c", watched=True)):
        engine.inbox.put(message)
    engine.tick()
    assert engine.outbox.get_nowait().cancelled, "it need not wait for the exchange"
    _, told = run_and_hear(engine, ticks=60)
    assert {news.job_id for news in told if isinstance(news, Progress)} == {"c"}


def test_of_two_exchanges_at_once_the_last_counts():
    engine, _ = engine_of()
    engine.inbox.put(generate("a", steps=5))
    engine.tick()
    first, second = other_runner(), other_runner()
    outcomes = run(engine, Exchange(first), Exchange(second), generate("b"))
    assert outcomes["b"].images
    assert (first.log, len(second.log)) == ([], 3)


# -- the thread ---------------------------------------------------------------------------------


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
