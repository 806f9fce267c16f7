"""The corpus against its targets: seeds, and whatever has found something. `make fuzz-files` finds more."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, attack

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path.relative_to(CORPUS) for path in CORPUS.glob("*/*"))
LONG_S = 10.0


def test_every_target_has_seeds() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)
    assert sum((CORPUS / path).stat().st_size for path in FILES) < 2**20


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_errors_of_our_tree_come_out(path: Path) -> None:
    begun_s = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow and torch, who go on
        attack(TARGETS[path.parent.name], (CORPUS / path).read_bytes())
    assert time.monotonic() - begun_s < LONG_S
