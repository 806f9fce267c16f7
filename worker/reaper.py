"""Reaper: puts back what workers that died have left. Every worker has one; any number may reap at once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence

import structlog
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.utils import now
from rq.worker_registration import clean_worker_registry

from worker import queue_scripts
from worker.claim import Claim, Ending
from worker.redis_connections import outages
from worker.rq_records import claim_of

LEASE_S = 60  # of a reaper's own, while it fails a job without retries: longer than any commit
BATCH = 100

log = structlog.get_logger("movq.reaper")


class Reaper:
    """Looks after one bundle's queues.

    `lease_s`: how long an id may stay between two lists. `end`: tells Redis how jobs have ended.
    """

    def __init__(
        self,
        connection: Redis,
        queues: Sequence[Queue],
        *,
        lease_s: int,
        end: Callable[[Sequence[tuple[Claim, Ending]]], object],
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._lease_s = lease_s
        self._end = end
        self._rounds = 0
        self._stranded_since_s: dict[str, float] = {}
        self._keys = [
            *(queue.key for queue in queues),
            *(queue.started_job_registry.key for queue in queues),
        ]
        self._reap = connection.register_script(queue_scripts.REAP)
        self._return_stranded = connection.register_script(queue_scripts.RETURN_STRANDED)

    def reap(self) -> dict[str, int]:
        """How many jobs, by reason; raises QueueUnavailable.

        What is less urgent, and costs more commands, is looked after for one queue a time.
        """
        execution_id = uuid.uuid4().hex
        self._rounds += 1
        queue = self._queues[self._rounds % len(self._queues)]
        with outages():
            back, exhausted = self._reap(self._keys, [execution_id, LEASE_S, BATCH])
            for job_id, request_id in back:
                ids = {"job_id": job_id.decode(), "request_id": request_id.decode(errors="replace")}
                log.warning("a job lost its worker, and is queued again", **ids)
            for place, job_id in exhausted:
                self._fail(job_id.decode(), execution_id, self._queues[place - 1].name)
            stranded = self._reap_stranded(queue)
            queue.finished_job_registry.cleanup()
            queue.failed_job_registry.cleanup()
            clean_worker_registry(queue)
        return {"lease": len(back), "exhausted": len(exhausted), "stranded": stranded}

    def _fail(self, job_id: str, execution_id: str, queue: str) -> None:
        record = self._connection.hgetall(Job.key_for(job_id))
        claim = claim_of(job_id, execution_id, queue, record, started_at=now(), connection=self._connection)
        message = "the worker was lost while it ran this job, and no retry is left"
        self._end([(claim, Ending("failed", message=message))])
        log.warning("a job failed", **claim.ids, error=message)

    def _reap_stranded(self, queue: Queue) -> int:
        """Put back ids that stay in a queue's intermediate list for longer than a lease."""
        seen_s = time.monotonic()
        seen = queue.intermediate_queue.get_job_ids()
        for job_id in seen:
            self._stranded_since_s.setdefault(job_id, seen_s)
        due = [job_id for job_id in seen if self._stranded_since_s[job_id] < seen_s - self._lease_s]
        for job_id in due:
            del self._stranded_since_s[job_id]
        return sum(self._put_back(queue, job_id) for job_id in due)

    def _put_back(self, queue: Queue, job_id: str) -> int:
        keys = [queue.intermediate_queue_key, queue.key, Job.key_for(job_id)]
        return int(self._return_stranded(keys, [job_id]))
