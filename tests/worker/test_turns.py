"""Turns: shares of time, whatever a turn takes."""

import random

import pytest

from worker.turns import Kind, Turns

GENERATION, TILES = Kind.GENERATION, Kind.TILES
BOTH = [GENERATION, TILES]


def run(turns, seconds, busy, until_s):
    """Take turns until `until_s` of device time are used; the seconds that each kind had."""
    had = dict.fromkeys(Kind, 0.0)
    while sum(had.values()) < until_s:
        kind = turns.next(busy)
        turns.charge(kind, seconds[kind]())
        had[kind] += seconds[kind]()
    return had


def constant(generation_s, tiles_s):
    return {GENERATION: lambda: generation_s, TILES: lambda: tiles_s}


def test_nobody_has_a_turn_when_nobody_has_work():
    assert Turns().next([]) is None


@pytest.mark.parametrize("tiles_s", [0.001, 0.05, 2.5])
def test_kinds_with_work_share_equally(tiles_s):
    had = run(Turns(), constant(0.05, tiles_s), BOTH, until_s=100)
    assert had[GENERATION] == pytest.approx(had[TILES], rel=0.06)


def test_who_is_alone_has_all():
    assert run(Turns(), constant(1.0, 1.0), [TILES], until_s=10) == {GENERATION: 0.0, TILES: 10.0}


def test_a_kind_that_was_idle_starts_level_and_is_next():
    turns = Turns()
    run(turns, constant(0.1, 0.1), [TILES], until_s=1000)
    assert turns.next(BOTH) is GENERATION
    had = run(turns, constant(0.1, 0.1), BOTH, until_s=10)
    assert had[GENERATION] == pytest.approx(5.0, abs=0.2)


def test_leaving_for_a_moment_cheats_nobody():
    """A kind whose every job is one long turn, with a pause between two, has no more than its half."""
    turns = Turns()
    had = dict.fromkeys(Kind, 0.0)
    tiles_wait = 0
    while sum(had.values()) < 1000:
        kind = turns.next([GENERATION] if tiles_wait else BOTH)
        seconds = 2.0 if kind is TILES else 0.05
        turns.charge(kind, seconds)
        had[kind] += seconds
        tiles_wait = 1 if kind is TILES else 0
    assert had[TILES] <= had[GENERATION] + 2.0


def test_an_idle_device_forgives():
    turns = Turns()
    turns.charge(turns.next([TILES]), 100.0)
    assert turns.next([]) is None
    assert [turns.next(BOTH), turns.next([TILES])] == [GENERATION, TILES]
    had = run(turns, constant(0.1, 0.1), BOTH, until_s=10)
    assert had[TILES] == pytest.approx(5.0, abs=0.2), (
        "tiles paid for a time when nobody else wanted the device"
    )


def test_at_any_time_both_are_level_to_a_turn_each():
    rng = random.Random(0)
    turns, had = Turns(), dict.fromkeys(Kind, 0.0)
    for _ in range(5000):
        kind = turns.next(BOTH)
        seconds = rng.choice([0.01, 0.05, 1.0])
        turns.charge(kind, seconds)
        had[kind] += seconds
        assert abs(had[GENERATION] - had[TILES]) <= 1.0 + 1e-9
