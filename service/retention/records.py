"""JobRecords: what the jobs in Redis need of the blob store; and whose turn it is to sweep."""

from __future__ import annotations

import math
import zlib
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from redis import RedisError
from redis.lock import Lock
from rq.job import Job as RQJob
from rq.utils import str_to_date

from movq_core.blobs import keys_in
from movq_core.errors import QueueUnavailable
from movq_core.protocol import parse_queue_name
from service.job import Status, status_of
from service.redis_connections import open_client
from service.rq_records import results_key

TURN = "movq:retention"
LEASE_S = 600.0  # of a turn that is not renewed: its process has died. S3 lists a million files in minutes
PAGE = 200  # records read at a time


@dataclass
class Needs:
    """Which blobs are named by jobs that are not over, and which by records of those that are.

    `begun_at_s`: when the job began that runs longest; what was written since may be its output. Its worker
    may have it in hand for as long as Redis is out of its reach.
    """

    of_open: set[str] = field(default_factory=set)
    of_ended: set[str] = field(default_factory=set)
    begun_at_s: float = math.inf


class JobRecords:
    """Jobs as RQ records them. Every method raises QueueUnavailable when Redis cannot be reached."""

    def __init__(self, redis_url: str) -> None:
        self._redis = open_client(redis_url)

    @contextmanager
    def turn(self, every_s: float) -> Iterator[Callable[[], None] | None]:
        """What keeps the turn while it is called, and raises QueueUnavailable once it is lost; or None.

        Of all processes one has it, and after it nobody for `every_s` seconds, unless it ended by an error.
        """
        lock = self._redis.lock(TURN, timeout=LEASE_S, blocking=False)
        with _outage_told():
            has_turn = lock.acquire()
        if not has_turn:
            yield None
            return
        try:
            yield lambda: _renew(lock)
        except BaseException:
            with suppress(RedisError):
                lock.release()
            raise
        with _outage_told():
            lock.extend(every_s, replace_ttl=True)

    def needs(self, blobs: Collection[str], running_since_s: float, go_on: Callable[[], None]) -> Needs:
        """Of these blobs, those that jobs name. A job that began before `running_since_s` is taken for dead.

        Every record is read: a SCAN shows each that is there from its beginning to its end. What a record
        says is searched for keys and not understood, so that a newer version's jobs are seen, too.
        """
        needs = Needs()
        for page in self._pages():
            go_on()
            for (status, origin, data, started_at), result in page:
                if not _is_ours(origin):
                    continue
                named = {key for key in keys_in(_text_of(data, result)) if key in blobs}
                (needs.of_ended if _is_over(status) else needs.of_open).update(named)
                if status == b"started" and started_at:
                    begun_at_s = str_to_date(started_at).timestamp()
                    if begun_at_s >= running_since_s:
                        needs.begun_at_s = min(needs.begun_at_s, begun_at_s)
        return needs

    def _pages(self) -> Iterator[list[tuple[list[Any], Any]]]:
        """Status, queue, request and start of each job, and the entries of its last result."""
        prefix = RQJob.key_for("")
        found = self._redis.scan_iter(match=f"{prefix}*", count=PAGE, _type="HASH")
        with _outage_told():
            while page := tuple(islice(found, PAGE)):
                with self._redis.pipeline(transaction=False) as pipeline:
                    for key in page:
                        pipeline.hmget(key, "status", "origin", "data", "started_at")
                        pipeline.xrevrange(results_key(key.decode().removeprefix(prefix)), count=1)
                    answers = pipeline.execute()
                yield list(zip(answers[::2], answers[1::2], strict=True))


def _renew(lock: Lock) -> None:
    with _outage_told():
        lock.reacquire()


@contextmanager
def _outage_told() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise QueueUnavailable(str(error)) from error


def _is_over(status: bytes | None) -> bool:
    return status_of((status or b"").decode()) not in (Status.QUEUED, Status.RUNNING)


def _is_ours(origin: bytes | None) -> bool:
    """Whether a record is a job's for a bundle; what is left of one that expired has no queue."""
    try:
        parse_queue_name((origin or b"").decode())
    except ValueError:
        return False
    return True


def _text_of(data: bytes | None, result: Any) -> str:
    """What a job was asked and what it returned, as the JSON that RQ keeps."""
    returned = b"".join(b64decode(fields.get(b"return_value", b"")) for _, fields in result)
    return (_unpacked(data or b"") + returned).decode(errors="replace")


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:  # RQ takes both
        return data
