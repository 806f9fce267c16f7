"""Scheduler: rows from a free-list, first come first served."""

import random

from movq_core.params import SamplingParams
from worker.generation import Generation
from worker.scheduler import Scheduler


def generation(job_id="job", index=0, steps=3):
    return Generation(job_id, index, None, SamplingParams(steps=steps), codes_per_image=32, masked=32)


def test_admits_in_order_while_rows_are_free():
    scheduler = Scheduler(rows=2)
    a, b, c = (generation(name) for name in "abc")
    for g in (a, b, c):
        scheduler.add(g)
    assert scheduler.admit() == [a, b]
    assert scheduler.admit() == []
    assert list(scheduler.waiting) == [c]
    assert scheduler.batch() == [a, b]


def test_a_retired_row_goes_to_the_next_who_waits():
    scheduler = Scheduler(rows=2)
    a, b, c = (generation(name) for name in "abc")
    for g in (a, b, c):
        scheduler.add(g)
    scheduler.admit()
    row = a.row
    scheduler.retire(a)
    assert a.row is None
    assert scheduler.admit() == [c]
    assert c.row == row


def test_cancel_drops_a_jobs_images_waiting_and_running_and_no_others():
    scheduler = Scheduler(rows=2)
    ours = [generation("ours", i) for i in range(3)]
    other = generation("other")
    for g in (ours[0], other, *ours[1:]):
        scheduler.add(g)
    scheduler.admit()
    assert set(scheduler.cancel("ours")) == set(ours)
    assert scheduler.batch() == [other]
    assert not scheduler.waiting
    assert scheduler.cancel("ours") == []


def test_rows_are_never_shared_nor_lost():
    """A random walk of arrivals, ends and cancels, with the invariant checked after each."""
    rng = random.Random(0)
    scheduler = Scheduler(rows=4)
    for turn in range(2000):
        action = rng.random()
        if action < 0.5:
            scheduler.add(generation(f"job-{turn % 7}", turn))
        elif action < 0.8 and scheduler.running:
            scheduler.retire(rng.choice(list(scheduler.running.values())))
        else:
            scheduler.cancel(f"job-{rng.randrange(7)}")
        scheduler.admit()
        rows = [g.row for g in scheduler.batch()]
        assert len(set(rows)) == len(rows) <= 4
        assert all(scheduler.running[g.row] is g for g in scheduler.batch())
        assert not scheduler.waiting or len(rows) == 4
    for g in scheduler.batch():
        scheduler.retire(g)
    scheduler.waiting.clear()
    for i in range(5):
        scheduler.add(generation(index=i))
    assert sorted(g.row for g in scheduler.admit()) == [0, 1, 2, 3]
