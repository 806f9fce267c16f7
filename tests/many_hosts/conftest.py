"""Several processes of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.many_hosts.household import Household


@pytest.fixture
def household(tmp_path: Path) -> Iterator[Household]:
    household = Household(tmp_path)
    yield household
    household.close()


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()
