"""RateLimit: how many jobs a key, or an address, may ask for in a time; counted in Redis for all services."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from movq_core.errors import TooManyRequests
from service.redis_connections import open_async_pool, outage_told

CONNECTIONS = 16
_PREFIX = "movq:rate"


def parse_rate(text: str) -> RateLimitItem:
    """`120/minute`; raises ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no rate; say how many in which time, as in 120/minute") from error


class RateLimit:
    """A moving window: never more than the rate's number within any of its times."""

    def __init__(self, rate: str, redis_url: str) -> None:
        self._rate = parse_rate(rate)
        self._connections = open_async_pool(redis_url, CONNECTIONS)
        storage = RedisStorage(
            "async+redis://",  # where Redis is, its connections know
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=self._connections,  # type: ignore[arg-type]  # it is passed on
        )
        self._window = MovingWindowRateLimiter(storage)

    async def count(self, who: str) -> None:
        """Count a request of `who`; raises TooManyRequests, or QueueUnavailable when Redis is away."""
        with outage_told():
            if await self._window.hit(self._rate, who):
                return
            free_at = (await self._window.get_window_stats(self._rate, who)).reset_time
        raise TooManyRequests(
            f"You have asked for too much: {self._rate.amount} requests are allowed "
            f"per {self._rate.get_expiry()} s.",
            retry_after_s=max(1, math.ceil(free_at - time.time())),
        )

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._connections.disconnect()
