"""Verdict: whether the house kept its promises, once everything is over. See docs/chaos.md."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import RedisError

from movq_core.blobs import content_key
from service.job import Job, Status
from service.rq_records import Record, job_of, record_of, result_of
from tests.chaos.house import QUEUES, House, Resident
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.oracle import Oracle

CHUNK = 500
FREE_WITHIN_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """How all that was accepted has ended; `broken`: a sentence for each promise that was not kept."""

    accepted: int
    ended: Counter[Status]
    ran_again: int  # jobs that have spent a retry: they lost a worker, or raised
    lost: int
    broken: Sequence[str]


def is_over(house: House, ledger: Ledger) -> bool:
    """Whether every accepted job has ended; False while Redis is away."""
    statuses: list[bytes | None] = []
    try:
        for entries in _chunks(ledger.accepted):
            with house.client.pipeline(transaction=False) as pipeline:
                for entry in entries:
                    pipeline.hget(f"rq:job:{entry.job_id}", "status")
                statuses += pipeline.execute()
    except RedisError:
        return False
    return not {b"queued", b"started"} & set(statuses)


def judge(house: House, ledger: Ledger, oracle: Oracle) -> Verdict:
    """Read every key that is left, and compare every result with the oracle's."""
    entries = ledger.accepted
    ended: Counter[Status] = Counter()
    broken = [*ledger.surprises, *_strangers(house, entries), *_leftovers(house)]
    ran_again = lost = 0
    for entry, record, results in _records(house, entries):
        result = result_of(entry.job_id, results, house.client)
        if record is None or record.status in (Status.QUEUED, Status.RUNNING):
            lost += 1
            broken.append(
                f"{entry.job_id} is lost: {record.status if record else 'Redis has no record of it'}"
            )
            continue
        ended[record.status] += 1
        ran_again += (record.rq.retries_left or 0) < house.plan.retries
        job = job_of(record, None, None, result)
        wrong = [*_wrong_end(entry, job.status, len(results)), *_changed(house, oracle, job)]
        broken += [f"{job.id} ({job.status}): {sentence}" for sentence in wrong]
    return Verdict(len(entries), ended, ran_again, lost, broken)


def _chunks(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    return [entries[first : first + CHUNK] for first in range(0, len(entries), CHUNK)]


def _records(house: House, entries: Sequence[Entry]) -> list[tuple[Entry, Record | None, Any]]:
    """Each with its record and the entries of its results."""
    found = []
    for chunk in _chunks(entries):
        with house.client.pipeline(transaction=False) as pipeline:
            for entry in chunk:
                pipeline.hgetall(f"rq:job:{entry.job_id}")
                pipeline.xrange(f"rq:results:{entry.job_id}")
            told = pipeline.execute()
        for entry, fields, results in zip(chunk, told[::2], told[1::2], strict=True):
            found.append((entry, record_of(entry.job_id, fields, house.client), results))
    return found


def _wrong_end(entry: Entry, status: Status, results: int) -> list[str]:
    wrong = []
    if results > 1 or (results == 0 and status is not Status.CANCELLED):
        wrong.append(f"it has {results} results")
    if status is Status.CANCELLED and not entry.cancel_asked:
        wrong.append("nobody cancelled it")
    if entry.cancel_told and status is not Status.CANCELLED:
        wrong.append("its caller was told that it is cancelled")
    return wrong


def _changed(house: House, oracle: Oracle, job: Job) -> list[str]:
    """Where its output is not what its request gives, or the bytes are not in the store."""
    if job.output is None:
        return []
    got, expected = job.output, oracle.of(job.request, house.blobs)
    wrong = []
    if (got.image_keys, got.codes_key, got.seeds) != (
        expected.image_keys,
        expected.codes_key,
        expected.seeds,
    ):
        wrong.append(f"its result changed: {job.request!r}")
    for key in [*got.image_keys, *([got.codes_key] if got.codes_key else [])]:
        path = house.blobs / key
        folder, suffix = key.partition("/")[0], key.rpartition(".")[2]
        if not path.exists() or content_key(folder, path.read_bytes(), suffix) != key:
            wrong.append(f"the bytes of {key} are not there")
    return wrong


def _strangers(house: House, entries: Sequence[Entry]) -> list[str]:
    """Jobs that were made twice of one request, or that nobody asked for."""
    known = {entry.job_id for entry in entries}
    found = {key.decode().removeprefix("rq:job:") for key in house.client.scan_iter("rq:job:*", 1000)}
    broken = [f"{job_id}: a job that no client knows" for job_id in found - known]
    if len(known) < len(entries):
        broken.append(f"{len(entries) - len(known)} jobs were given to two requests")
    return broken


def _leftovers(house: House) -> list[str]:
    """Keys that say that something is under way, or that would stay for ever; rows in use."""
    redis, broken = house.client, []
    for queue in QUEUES:
        counts = {
            f"rq:queue:{queue}": redis.llen,
            f"rq:queue:{queue}:intermediate": redis.llen,
            f"rq:wip:{queue}": redis.zcard,
        }
        broken += [f"{key} holds {left}" for key, count in counts.items() if (left := count(key))]
    for pattern in ("rq:execution:*", "rq:executions:*", "rq:worker:*:executions"):
        broken += [f"{key.decode()} is left" for key in redis.scan_iter(pattern, 1000)]
    for pattern in ("movq:events:*", "movq:watchers:*"):
        keys = [key for key in redis.scan_iter(pattern, 1000) if redis.ttl(key) == -1]
        broken += [f"{key.decode()} stays for ever" for key in keys]
    return broken + [f"{w.name} has rows in use" for w in house.workers if not _becomes_free(house, w)]


def _becomes_free(house: House, worker: Resident) -> bool:
    """Its numbers follow the last job's end by a moment."""
    deadline_s = time.monotonic() + FREE_WITHIN_S
    while time.monotonic() < deadline_s:
        if house.rows(worker) == (0.0, 0.0):
            return True
        time.sleep(0.1)
    return False
