"""A bundle with random weights, and the whole of movq running on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from movq_core.bundle import ModelBundle
from tests.end_to_end.stack import Stack
from worker.fakes import TINY


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    ModelBundle.random(TINY).save(folder)
    return folder


@pytest.fixture
def launch(tmp_path: Path, tiny_bundle: Path) -> Iterator[Callable[..., Stack]]:
    """Start a stack; whatever happens in the test, none of it stays."""
    stacks: list[Stack] = []

    def start(**environment: str) -> Stack:
        stack = Stack(tmp_path / f"data{len(stacks)}", tiny_bundle, **environment)
        stacks.append(stack)
        stack.start()
        return stack

    yield start
    for stack in stacks:
        stack.close()
