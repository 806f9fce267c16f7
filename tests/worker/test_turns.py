"""Turns: shares by weight, whatever a turn takes."""

import random
from itertools import pairwise

import pytest

from worker.turns import Turns

STEPS, TILES, PREVIEWS = "steps", "tiles", "previews"
BOTH = [STEPS, TILES]


def equal():
    return Turns({STEPS: 1.0, TILES: 1.0})


def run(turns, amounts, busy, until):
    """Take turns until `until` is used up; what each had."""
    had = dict.fromkeys(amounts, 0.0)
    while sum(had.values()) < until:
        key = turns.next(busy)
        amount = amounts[key]()
        turns.charge(key, amount)
        had[key] += amount
    return had


def constant(steps, tiles):
    return {STEPS: lambda: steps, TILES: lambda: tiles}


def test_nobody_has_a_turn_when_nobody_has_work():
    assert equal().next([]) is None


@pytest.mark.parametrize("tiles", [0.001, 0.05, 2.5])
def test_those_of_one_weight_share_equally(tiles):
    had = run(equal(), constant(0.05, tiles), BOTH, until=100)
    assert had[STEPS] == pytest.approx(had[TILES], rel=0.06)


@pytest.mark.parametrize("weights", [{"a": 4, "b": 2, "c": 1}, {"a": 1, "b": 1, "c": 1 / 3}])
def test_shares_are_by_weight(weights):
    rng = random.Random(0)
    amounts = dict.fromkeys(weights, lambda: rng.choice([0.1, 1, 3]))
    had = run(Turns(weights), amounts, list(weights), until=5000)
    for key, weight in weights.items():
        assert had[key] / 5000 == pytest.approx(weight / sum(weights.values()), rel=0.02)


def test_the_lightest_is_not_starved():
    turns = Turns({"high": 4, "normal": 2, "low": 1})
    order = []
    for _ in range(70):
        key = turns.next(["high", "normal", "low"])
        turns.charge(key, 1)
        order.append(key)
    assert [order.count(key) for key in ("high", "normal", "low")] == [40, 20, 10]
    assert max(later - first for first, later in pairs(order, "low")) <= 8


def pairs(order, key):
    places = [place for place, it in enumerate(order) if it == key]
    return pairwise(places)


def test_who_is_alone_has_all():
    assert run(equal(), constant(1.0, 1.0), [TILES], until=10) == {STEPS: 0.0, TILES: 10.0}


def test_an_idle_share_goes_to_the_others_by_their_weights():
    had = run(Turns({"a": 4, "b": 2, "c": 1}), {"a": lambda: 1, "c": lambda: 1}, ["a", "c"], until=500)
    assert had == {"a": 400, "c": 100}


def test_who_was_idle_starts_level_and_is_next():
    turns = equal()
    run(turns, constant(0.1, 0.1), [TILES], until=1000)
    assert turns.next(BOTH) is STEPS
    had = run(turns, constant(0.1, 0.1), BOTH, until=10)
    assert had[STEPS] == pytest.approx(5.0, abs=0.2)


def test_leaving_for_a_moment_cheats_nobody():
    """One whose every job is one long turn, with a pause between two, has no more than its half."""
    turns = equal()
    had = dict.fromkeys(BOTH, 0.0)
    tiles_wait = 0
    while sum(had.values()) < 1000:
        key = turns.next([STEPS] if tiles_wait else BOTH)
        amount = 2.0 if key is TILES else 0.05
        turns.charge(key, amount)
        had[key] += amount
        tiles_wait = 1 if key is TILES else 0
    assert had[TILES] <= had[STEPS] + 2.0


def test_idleness_forgives():
    turns = equal()
    turns.charge(turns.next([TILES]), 100.0)
    assert turns.next([]) is None
    assert [turns.next(BOTH), turns.next([TILES])] == [STEPS, TILES]
    had = run(turns, constant(0.1, 0.1), BOTH, until=10)
    assert had[TILES] == pytest.approx(5.0, abs=0.2), "tiles paid for a time when nobody else wanted a turn"


def test_at_any_time_all_are_level_to_a_turn_each():
    rng = random.Random(0)
    weights = {STEPS: 1.0, TILES: 1.0, PREVIEWS: 1 / 3}
    turns, used = Turns(weights), dict.fromkeys(weights, 0.0)
    for _ in range(5000):
        key = turns.next(list(weights))
        amount = rng.choice([0.01, 0.05, 1.0])
        turns.charge(key, amount)
        used[key] += amount / weights[key]
        assert max(used.values()) - min(used.values()) <= 1.0 / min(weights.values()) + 1e-9
