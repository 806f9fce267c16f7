"""JobEvents: what happens to jobs, for those who listen; beside `jobs` the only one that knows Redis.

Events stand in a stream a job, which is replayed exactly after any of its ids. One connection hears of news
for all listeners of a process; a message that is lost costs time, never an event, for each looks again now
and then. While anybody here listens to a job, this process is one of its watchers: see `movq_core/events.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import redis

from movq_core.errors import JobNotFound, QueueUnavailable
from movq_core.events import EVENTS_CHANNEL, events_key, watchers_key
from movq_core.protocol import EventType
from service.jobs import OUTAGE_PAUSE_S
from service.queue_scripts import RENEW_WATCHES, UNWATCH, WATCH
from service.redis_connections import open_async_client, outage_told
from service.settings import Settings

WATCH_S = 10  # a watcher that is not heard from for so long has gone
RENEW_EVERY_S = 4.0
RENEW_AT_ONCE = 500
LOOK_EVERY_S = 15.0
READ_AT_ONCE = 100
CONNECTIONS = 8
_ID = re.compile(r"\d{1,19}-\d{1,19}")

T = TypeVar("T")


@dataclass(frozen=True)
class JobEvent:
    """One entry of a job's stream; `id` says where to go on."""

    id: str
    type: EventType
    data: dict[str, Any]


class JobEvents:
    """The listeners of one process."""

    def __init__(self, settings: Settings) -> None:
        self._name = uuid.uuid4().hex  # as a watcher
        # A crowd of listeners waits for its turn.
        self._redis = open_async_client(settings.redis_url, CONNECTIONS, wait_s=None)
        self._register = self._redis.register_script(WATCH)
        self._renew = self._redis.register_script(RENEW_WATCHES)
        self._unregister = self._redis.register_script(UNWATCH)
        self._audiences: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Hear no more, and close the connections to Redis."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._redis.aclose()

    async def watch(self, job_id: str, after: str | None = None) -> AsyncGenerator[JobEvent, None]:
        """What has happened to the job after the event `after`, and what happens from now on, until `done`.

        Without `after`, and after an id that is none of ours, from the beginning. A job that is over has
        nothing after its `done`. Raises JobNotFound; QueueUnavailable at the beginning alone, for a later
        outage is waited out.
        """
        if not self._tasks:
            self._spawn(self._hear())
            self._spawn(self._keep_watching())
        news, last = asyncio.Event(), after if after and _ID.fullmatch(after) else "0-0"
        self._audiences[job_id].add(news)
        try:
            is_over = await self._watch(job_id)
            while True:
                news.clear()
                events = await patiently(partial(self._read, job_id, last))
                for event in events:
                    yield event
                    last = event.id
                    if event.type is EventType.DONE:
                        return
                if len(events) < READ_AT_ONCE:
                    if is_over:
                        return
                    is_over = await self._wait(job_id, news)
        finally:
            self._leave(job_id, news)

    async def _watch(self, job_id: str) -> bool:
        """Make this process a watcher of the job; whether it is over. Raises JobNotFound."""
        keys = [f"rq:job:{job_id}", events_key(job_id), watchers_key(job_id)]
        with outage_told():
            told = await self._register(keys, [job_id, self._name, WATCH_S])
        if told is None:
            raise JobNotFound(f"There is no job {job_id}, or its result has expired.")
        return bool(told)

    async def _read(self, job_id: str, after: str) -> Sequence[JobEvent]:
        with outage_told():
            entries: Any = await self._redis.xrange(events_key(job_id), f"({after}", count=READ_AT_ONCE)
        return [
            JobEvent(entry_id.decode(), EventType(fields[b"type"].decode()), json.loads(fields[b"data"]))
            for entry_id, fields in entries
        ]

    async def _wait(self, job_id: str, news: asyncio.Event) -> bool:
        """Until there is news, or it is time to look anyhow; whether the job is over."""
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await news.wait()
        except TimeoutError:
            return await patiently(partial(self._watch, job_id))
        return False

    def _leave(self, job_id: str, news: asyncio.Event) -> None:
        audience = self._audiences[job_id]
        audience.discard(news)
        if not audience:
            del self._audiences[job_id]
            self._spawn(self._unwatch(job_id))  # not here: whoever leaves may have been cancelled

    async def _unwatch(self, job_id: str) -> None:
        if job_id not in self._audiences:
            with suppress(QueueUnavailable), outage_told():  # then it lapses
                keys = [f"rq:job:{job_id}", watchers_key(job_id)]
                await self._unregister(keys, [job_id, self._name])

    # -- for all listeners ----------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hear(self) -> None:
        """Wake those who listen to a job that has news; all of them when some may have been missed."""
        while True:
            with suppress(redis.RedisError, OSError):
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(EVENTS_CHANNEL)
                    while True:
                        self._wake(await pubsub.get_message(timeout=LOOK_EVERY_S))
            await asyncio.sleep(OUTAGE_PAUSE_S)

    def _wake(self, message: Any) -> None:
        if message is None:
            return
        told = message["data"].decode() if message["type"] == "message" else None
        for job_id in [told] if told else list(self._audiences):
            for news in self._audiences.get(job_id, ()):
                news.set()

    async def _keep_watching(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            ids = list(self._audiences)
            with suppress(QueueUnavailable), outage_told():  # they lapse, and a look watches anew
                for first in range(0, len(ids), RENEW_AT_ONCE):
                    await self._renew([], [self._name, WATCH_S, *ids[first : first + RENEW_AT_ONCE]])


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, once Redis is there to give it."""
    while True:
        try:
            return await ask()
        except QueueUnavailable:
            await asyncio.sleep(OUTAGE_PAUSE_S)
