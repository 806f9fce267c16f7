"""Outbox: from the list of ended jobs to their queue of deliveries; a crash loses and repeats none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import anyio
import structlog
from anyio import to_thread
from pydantic import ValidationError
from redis import RedisError

from movq_core.errors import JobNotFound, QueueUnavailable
from movq_core.events import ENDED_KEY
from service.redis_connections import open_async_client
from service.webhooks.envelope import Envelopes
from service.webhooks.sender import Delivery

TAKEN_KEY = f"{ENDED_KEY}:taken"  # ids that were taken from the list, and are not yet deliveries
WAIT_S = 5
OUTAGE_PAUSE_S = 1.0

log = structlog.get_logger("movq.webhooks")


class Outbox:
    """Moves an id to a second list, makes a delivery of it, and forgets it only then.

    What stands in the second list at the beginning, or after Redis was away, is done again: a delivery has
    its job's name, and is made once.
    """

    def __init__(self, redis_url: str, envelopes: Envelopes, put: Callable[[Delivery], None]) -> None:
        self._redis: Any = open_async_client(redis_url, 1, socket_timeout=2 * WAIT_S)
        self._envelopes = envelopes
        self._put = put

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                for job_id in await self._redis.lrange(TAKEN_KEY, 0, -1):
                    await self._hand_over(job_id.decode())
                while True:
                    await self._take()
            except (RedisError, QueueUnavailable) as error:
                log.warning("waiting for redis", error=str(error))
                await anyio.sleep(OUTAGE_PAUSE_S)

    async def _take(self) -> None:
        job_id = await self._redis.blmove(ENDED_KEY, TAKEN_KEY, WAIT_S, "RIGHT", "LEFT")
        if job_id is not None:
            await self._hand_over(cast(bytes, job_id).decode())

    async def _hand_over(self, job_id: str) -> None:
        try:
            delivery = await self._envelopes.delivery(job_id)
        except (JobNotFound, ValidationError) as error:  # ValidationError: a record that is none of ours
            log.warning("nothing to tell", job_id=job_id, reason=str(error))
        else:
            await to_thread.run_sync(self._put, delivery)
        await self._redis.lrem(TAKEN_KEY, 1, job_id)
