"""All connections of the service to Redis are made here: to an address, or to a primary that Sentinel names.

Nothing is repeated by the client library, unless a caller wants it: a repeated script would enqueue a job
twice. In the third protocol XREAD answers in another shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from movq_core.errors import QueueUnavailable
from movq_core.redis_address import RedisAddress

SOCKET_TIMEOUT_S = 5.0
SENTINEL_TIMEOUT_S = 1.0  # then the next one is asked
_AWAY = "The queue cannot be reached now. Try again shortly; with an Idempotency-Key nothing is done twice."


def open_client(url: str, **options: Any) -> redis.Redis:
    """A client for threads, that connects when it is used. `options` go before ours."""
    address = RedisAddress.parse(url)
    options = _usual(SOCKET_TIMEOUT_S, Retry) | address.options() | options
    if address.service is None:
        kind = _connection_class(address, redis)
        return redis.Redis.from_pool(
            redis.ConnectionPool(connection_class=kind, **_place(address), **options)
        )
    told = _usual(SENTINEL_TIMEOUT_S, Retry) | address.sentinel_options()
    sentinels = redis.sentinel.Sentinel(address.hosts, sentinel_kwargs=told)
    client: redis.Redis = sentinels.master_for(address.service, ssl=address.tls is not None, **options)
    return client


def open_async_client(
    url: str, connections: int, *, wait_s: float | None = SOCKET_TIMEOUT_S, **options: Any
) -> redis.asyncio.Redis:
    """A client with so many connections at most: who finds all of them taken waits, for ever where `wait_s`
    is None. `options` go before ours.
    """
    return redis.asyncio.Redis.from_pool(open_async_pool(url, connections, wait_s=wait_s, **options))


def open_async_pool(
    url: str, connections: int, *, wait_s: float | None = SOCKET_TIMEOUT_S, **options: Any
) -> redis.asyncio.BlockingConnectionPool:
    """The connections of such a client, for a library that makes its own."""
    address = RedisAddress.parse(url)
    limits = {"max_connections": connections, "timeout": wait_s}
    options = _usual(SOCKET_TIMEOUT_S, AsyncRetry) | address.options() | limits | options
    if address.service is None:
        kind = _connection_class(address, redis.asyncio)
        return redis.asyncio.BlockingConnectionPool(connection_class=kind, **_place(address), **options)
    told = _usual(SENTINEL_TIMEOUT_S, AsyncRetry) | address.sentinel_options()
    sentinels = redis.asyncio.sentinel.Sentinel(address.hosts, sentinel_kwargs=told)
    with_tls = address.tls is not None
    return _BlockingSentinelPool(address.service, sentinels, ssl=with_tls, **options)  # type: ignore[no-untyped-call]


class _BlockingSentinelPool(
    redis.asyncio.sentinel.SentinelConnectionPool, redis.asyncio.BlockingConnectionPool
):
    """The library has one that asks Sentinel, and one that waits; this does both."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Those in use, too, are closed when the pool is."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def _usual(timeout_s: float, retry: type[Retry | AsyncRetry]) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": retry(NoBackoff(), 0),
        "protocol": 2,
    }


def _place(address: RedisAddress) -> dict[str, Any]:
    if address.socket_path:
        return {"path": address.socket_path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port}


def _connection_class(address: RedisAddress, library: Any) -> Any:
    """Of `redis` or of `redis.asyncio`: they have the same names."""
    if address.socket_path:
        return library.UnixDomainSocketConnection
    return library.Connection if address.tls is None else library.SSLConnection


@contextmanager
def outage_told() -> Iterator[None]:
    """Say in our words that Redis is away, is loading, or refuses writes."""
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(_AWAY) from error
    except RuntimeError as error:  # uvloop's, for a connection that ended a moment ago
        if "handler is closed" not in str(error):
            raise
        raise QueueUnavailable(_AWAY) from error
