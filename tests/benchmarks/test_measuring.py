"""What every benchmark relies on: turns are fair, spreads are quartiles, files say what they belong to."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.measuring import Timing, comparison, interleaved, spread, write_json


def test_every_case_runs_once_a_round_and_the_order_changes():
    calls: list[str] = []
    cases = {name: (lambda name=name: calls.append(name)) for name in "abc"}

    timings = interleaved(cases, rounds=10, warmup=2)

    rounds = [tuple(calls[i : i + 3]) for i in range(0, len(calls), 3)]
    assert len(rounds) == 12
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(Counter(rounds)) > 1
    assert all(len(timing.seconds) == 10 for timing in timings.values())


def test_what_comes_after_is_part_of_the_timing():
    timings = interleaved({"nothing": lambda: None}, rounds=1, warmup=0, after=lambda: time.sleep(0.02))
    assert timings["nothing"].median_s >= 0.02


def test_the_median_and_the_quartiles():
    timing = Timing((4.0, 1.0, 3.0, 2.0, 5.0))
    assert (timing.low_s, timing.median_s, timing.high_s) == (2.0, 3.0, 4.0)
    assert spread(timing.seconds) == "3 (2 to 4)"
    assert spread([7.0]) == "7"


def test_a_ratio_is_taken_within_rounds():
    """A machine that is ten times slower in the last two of three rounds is so to both."""
    assert Timing((2.0, 20.0, 30.0)).ratio_to(Timing((1.0, 10.0, 10.0))) == 2.0


def test_the_table_tells_how_many_times_faster():
    table = comparison("", {"peer": Timing((0.4,)), "ours": Timing((0.1,))}, baseline="peer")
    assert list(table.columns[-1].cells) == ["1.00x", "4.00x"]


def test_a_file_says_what_its_figures_belong_to(tmp_path: Path):
    write_json(tmp_path / "a.json", "a", {"case": Timing((1.0, 3.0))})

    document = json.loads((tmp_path / "a.json").read_text())
    assert document["results"]["case"]["median_s"] == 2.0
    assert document["machine"]["torch"] == torch.__version__
    assert document["machine"]["cores"] >= 1
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", "b", {"case": object()})
