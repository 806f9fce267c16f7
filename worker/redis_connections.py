"""All connections of a worker to Redis are made here: to an address, or to a primary that Sentinel names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from movq_core.errors import QueueUnavailable
from movq_core.redis_address import RedisAddress

SOCKET_TIMEOUT_S = 5
SENTINEL_TIMEOUT_S = 1  # then the next one is asked
OUTAGES = (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError)
_REFUSALS = ("MISCONF", "NOREPLICAS")  # its disk is full, mostly; it has fewer replicas than it must


def open_client(url: str) -> Redis:
    """A client, with connections of its own, that connects when it is used.

    It never repeats a command by itself: whether the first one ran is for us to find out.
    """
    address = RedisAddress.parse(url)
    options = _usual(SOCKET_TIMEOUT_S) | address.options()
    if address.service is not None:
        told = _usual(SENTINEL_TIMEOUT_S) | address.sentinel_options()
        sentinels = Sentinel(address.hosts, sentinel_kwargs=told)
        client: Redis = sentinels.master_for(address.service, ssl=address.tls is not None, **options)
        return client
    if address.socket_path:
        place: dict[str, Any] = {"path": address.socket_path, "connection_class": UnixDomainSocketConnection}
    else:
        ((host, port),) = address.hosts
        kind = Connection if address.tls is None else SSLConnection
        place = {"host": host, "port": port, "connection_class": kind}
    return Redis.from_pool(ConnectionPool(**place, **options))


def _usual(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }


@contextmanager
def outages() -> Iterator[None]:
    """Redis away or refusing writes, in our own words; everything else is a bug and passes."""
    try:
        yield
    except OUTAGES as error:
        raise QueueUnavailable(f"Redis: {error}") from error
    except ResponseError as error:
        # A pipeline puts words of its own before the server's.
        if not any(f"{refusal} " in str(error) for refusal in _REFUSALS):
            raise
        raise QueueUnavailable(f"Redis: {error}") from error
