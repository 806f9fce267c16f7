"""RQWorker: the worker's end of the queue; it, `reaper` and `rq_records` alone know Redis and RQ.

One worker holds many executions at once. Each job it has taken is a `Claim`, owned for as long as its lease
is renewed. Taking jobs and ending them are one script each (see `queue_scripts`), so that a worker whose
lease was lost (it was stopped, or Redis was away) cannot finish a job that runs elsewhere by now.

What RQ's own worker does beside is left out, for nobody here asks for it: dependents, callbacks, repeats,
rate limits, webhooks and delayed retries. Contact with RQ's private parts is kept here, and
`tests/worker/test_rq_worker_contract.py` holds them: RQ 3.0 is pinned.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import NoScriptError
from rq import Queue
from rq.command import parse_payload
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat
from rq.worker import BaseWorker, WorkerStatus
from rq.worker_registration import register

from movq_core.events import watch_channel
from movq_core.protocol import (
    WORKER_RECORD_S,
    EventType,
    PreviewEvent,
    Priority,
    StepEvent,
    queue_name,
)
from worker import queue_scripts
from worker.claim import Claim, Ending, Lease, Renewal
from worker.reaper import Reaper
from worker.redis_connections import OUTAGES, open_client, outages
from worker.rq_records import claim_of, final_record

WORKER_TTL_S = WORKER_RECORD_S - 60  # RQ adds a minute
TAKE_BATCH = 16  # jobs in one round trip: a batch's rows, mostly
_EVENT_TYPES: dict[type, EventType] = {StepEvent: EventType.STEP, PreviewEvent: EventType.PREVIEW}

log = structlog.get_logger("movq.rq_worker")


class RQWorker(BaseWorker):
    """Takes, renews, ends and gives back jobs of one bundle's three queues.

    All methods but `handle_payload`, `handle_watch` and the bells belong to one thread; those that talk to
    Redis raise QueueUnavailable while it is away, and may then be called again.
    """

    def __init__(self, connection: Redis, watching: Redis, model: str, *, lease_s: int) -> None:
        """`watching`: connections of their own for the bells, which block."""
        # A name that was never used: RQ refuses the name of a worker that was killed a moment ago.
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        names = [queue_name(model, priority) for priority in Priority]
        super().__init__(names, name, connection=connection, serializer="json", worker_ttl=WORKER_TTL_S)
        self.model = model
        self.lease_s = lease_s
        self.on_stop: Callable[[str], None] = lambda _: None  # told a job id, on the pub/sub thread
        self.on_watch: Callable[[str, bool], None] = lambda *_: None  # and whether anybody watches it
        self.suspended = False
        self._used: Sequence[Any] = (0, 0, 0)  # what each queue has had of us by its weight; TAKE reckons
        self._queue_keys = [queue.key for queue in self.queues]
        self._wip_keys = [queue.started_job_registry.key for queue in self.queues]
        self._watching = watching
        self._take = connection.register_script(queue_scripts.TAKE)
        self._extend = connection.register_script(queue_scripts.EXTEND)
        self._tell = connection.register_script(queue_scripts.TELL_EVENTS)
        self._end = connection.register_script(queue_scripts.END)
        self._give_back = connection.register_script(queue_scripts.GIVE_BACK)
        self._reaper = Reaper(connection, self.queues, lease_s=lease_s, end=self.end)

    @property
    def connection_timeout(self) -> int:
        """Seconds until a silent Redis counts as away; we never block longer than one second."""
        return 5

    # -- birth, life, death ---------------------------------------------------------------------

    def open(self) -> None:
        """Register, and listen for commands."""
        with outages():
            self.register_birth()  # type: ignore[no-untyped-call]
            self.subscribe()
            self.set_state(WorkerStatus.IDLE)

    def close(self) -> None:
        """Unregister, and let the connections go."""
        with outages():
            try:
                self.register_death()  # type: ignore[no-untyped-call]
            finally:
                self.unsubscribe()  # type: ignore[no-untyped-call]
                self.connection.close()

    def renew(self, claims: Mapping[Claim, float | None]) -> list[Renewal]:
        """Renew the worker's and every claim's lease in one round trip; whose each claim is now.

        With each claim goes the share of its work that is done, None where nobody knows.

        What Redis believes us to have and we know nothing of goes back to the queue: we took it, and the
        answer was lost.
        """
        self._state = WorkerStatus.BUSY if claims else WorkerStatus.IDLE
        self.last_heartbeat = now()

        def fill(pipeline: Pipeline) -> None:
            # Written whole each time, so that a Redis that came back empty knows us again.
            pipeline.hset(self.key, mapping=self._record())
            register(self, pipeline)
            self.heartbeat(pipeline=pipeline)
            pipeline.exists(WORKERS_SUSPENDED)
            pipeline.smembers(self.executions_key)
            for claim, progress in claims.items():
                keys = self._keys_of(claim)
                told = "" if progress is None else f"{progress:.3f}"
                arguments: list[Any] = [
                    claim.member, claim.execution_id, claim.job_id, self.lease_s, told,
                ]  # fmt: skip
                pipeline.evalsha(self._extend.sha, len(keys), *keys, *arguments)

        results = self._send(fill)
        suspended, executions, *renewals = results[len(results) - len(claims) - 2 :]
        self.suspended = bool(suspended)
        self._hand_back_strays({member.decode() for member in executions} - {c.member for c in claims})
        return [
            Renewal(Lease(lease.decode()), bool(watched), bool(stop)) for lease, watched, stop in renewals
        ]

    def _record(self) -> dict[Any, Any]:
        return {
            **self.serialize(),
            "state": self.get_state(),
            "successful_job_count": self.successful_job_count,
            "failed_job_count": self.failed_job_count,
            "total_working_time": self.total_working_time,
        }

    def _hand_back_strays(self, members: Iterable[str]) -> None:
        for member in members:
            job_id, _, execution_id = member.rpartition(":")
            with outages():
                origin: Any = self.connection.hget(Job.key_for(job_id), "origin")
            if origin and self.give_back(Claim(job_id, execution_id, origin.decode(), started_at=now())):
                log.warning("a job whose taking was not answered went back", job_id=job_id)

    # -- taking ---------------------------------------------------------------------------------

    @property
    def bells(self) -> list[Callable[[int], bool]]:
        """For each queue, whether a job stands in it, now or within so many seconds; see Doorbell."""
        return [partial(self._jobs_wait, key) for key in self._queue_keys]

    def _jobs_wait(self, key: str, timeout_s: int) -> bool:
        """Takes none: a list whose first entry moves to its own head stays as it was."""
        with outages():
            return self._watching.blmove(key, key, timeout_s, "LEFT", "LEFT") is not None

    def take(self, images: int) -> list[Claim]:
        """The queues' next jobs, claimed: as many as `images` images have room, the last may have more."""
        started_at = now()
        executions = [uuid.uuid4().hex for _ in range(min(images, TAKE_BATCH))]
        keys = [*self._queue_keys, *self._wip_keys, self.key, self.executions_key]
        arguments: list[Any] = [
            images, self.lease_s, self.name, self._state, utcformat(started_at), started_at.timestamp(),
        ]  # fmt: skip
        with outages():
            self._used, taken = self._take(keys, [*arguments, *self._used, *executions])
        if taken:
            self._state = WorkerStatus.BUSY
        return [self._claim(started_at, told) for told in taken]

    def _claim(self, started_at: datetime, told: Sequence[Any]) -> Claim:
        """What TAKE tells of a job."""
        place, job_id, execution_id, watched, left_s, record = told
        claim = claim_of(
            job_id.decode(),
            execution_id.decode(),
            self.queues[place - 1].name,
            _mapping(record),
            started_at=started_at,
            connection=self.connection,
        )
        return replace(claim, watched=bool(watched), left_s=float(left_s) if left_s else None)

    def tell(self, news: Mapping[Claim, Sequence[StepEvent | PreviewEvent]]) -> None:
        """Let those who watch these jobs know, in one round trip; nothing of one that is ours no more."""

        def fill(pipeline: Pipeline) -> None:
            for claim, events in news.items():
                told = [
                    part
                    for event in events
                    for part in (_EVENT_TYPES[type(event)].value, event.model_dump_json())
                ]
                wip = self._wip_key_of(claim)
                pipeline.evalsha(self._tell.sha, 1, wip, claim.member, claim.job_id, *told)

        if news:
            self._send(fill)

    # -- ending ---------------------------------------------------------------------------------

    def end(self, endings: Sequence[tuple[Claim, Ending]]) -> list[Lease]:
        """End jobs, those that are still ours, in one round trip; whose each was."""
        if not endings:
            return []
        ended_at = now()

        def fill(pipeline: Pipeline) -> None:
            for claim, ending in endings:
                final = final_record(claim, ending, ended_at, self.name)
                results = f"{RQ_KEY_PREFIX}:results:{claim.job_id}"
                keys = [*self._keys_of(claim), results, final.registry, self._queue_key_of(claim)]
                arguments = [claim.member, claim.execution_id, claim.job_id, *final.arguments()]
                pipeline.evalsha(self._end.sha, len(keys), *keys, *arguments)

        leases = [Lease(lease.decode()) for lease in self._send(fill)]
        for (claim, ending), lease in zip(endings, leases, strict=True):
            if lease is Lease.OWNED:
                self._count(claim, ending, ended_at)
        return leases

    def _count(self, claim: Claim, ending: Ending, ended_at: datetime) -> None:
        """What `rq info` tells of us; the next renewal writes it."""
        if ending.how == "succeeded":
            self.successful_job_count += 1
        else:
            self.failed_job_count += 1
        self.total_working_time += (ended_at - claim.started_at).total_seconds()

    def give_back(self, claim: Claim) -> bool:
        """Put a job back to the queue's head, for another worker, without spending a retry."""
        keys = [*self._keys_of(claim), self._queue_key_of(claim)]
        with outages():
            return bool(self._give_back(keys, [claim.member, claim.execution_id, claim.job_id]))

    def _queue_key_of(self, claim: Claim) -> str:
        return f"{Queue.redis_queue_namespace_prefix}{claim.queue}"

    def _wip_key_of(self, claim: Claim) -> str:
        return StartedJobRegistry.key_template.format(claim.queue)

    def _keys_of(self, claim: Claim) -> list[str]:
        return [
            self._wip_key_of(claim),
            Job.key_for(claim.job_id),
            f"{RQ_KEY_PREFIX}:execution:{claim.member}",
            f"{RQ_KEY_PREFIX}:executions:{claim.job_id}",
            self.executions_key,
        ]

    def _send(self, fill: Callable[[Pipeline], None]) -> list[Any]:
        """What `fill` puts into a pipeline, in one round trip, and once more if a script was not known.

        Then none of them has run: a pipeline holds calls of one script.
        """
        with outages(), self.connection.pipeline(transaction=False) as pipeline:
            fill(pipeline)
            try:
                return pipeline.execute()
            except NoScriptError:
                for script in (self._extend, self._end, self._tell):
                    self.connection.script_load(script.script)
                fill(pipeline)
                return pipeline.execute()

    def reap(self) -> dict[str, int]:
        """Put back the jobs of workers that died; how many by reason."""
        return self._reaper.reap()

    # -- commands, on the pub/sub thread --------------------------------------------------------

    def subscribe(self) -> None:
        """Listen for commands; wakes often, so that `unsubscribe` need not wait for Redis."""
        self.pubsub = self.connection.pubsub()  # type: ignore[no-untyped-call]
        channels = {
            self.pubsub_channel_name: self.handle_payload,
            watch_channel(self.model): self.handle_watch,
        }
        self.pubsub.subscribe(**channels)
        self.pubsub_thread = self.pubsub.run_in_thread(  # type: ignore[assignment]  # RQ says None
            sleep_time=0.25, daemon=True, exception_handler=self._pubsub_exception_handler
        )

    def handle_payload(self, message: Any) -> None:
        """Note which job shall stop; the owning thread acts.

        RQ's own handler compares a stop with the first execution only, and marks it by one
        attribute: with many executions the wrong job would end as stopped.
        """
        try:
            payload = parse_payload(message)
            command, job_id = payload["command"], str(payload.get("job_id", ""))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            log.warning("a command was not understood", error=str(error))
            return
        if command in ("stop-execution", "stop-job"):
            self.on_stop(job_id)
        elif command == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)

    def handle_watch(self, message: Any) -> None:
        """Note that a job is watched, or no more; a message that is lost is made up for by `renew`."""
        try:
            told = json.loads(message["data"])
            job_id, watched = str(told["job_id"]), bool(told["watched"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("a watch was not understood", error=str(error))
            return
        self.on_watch(job_id, watched)

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:  # noqa: ARG002
        """Reconnect for ever, after a time-out too: a dead listener would lose every later stop."""
        if not isinstance(exc, (*OUTAGES, OSError)):
            raise exc
        time.sleep(1.0)


def connect(url: str, model: str, *, lease_s: int) -> RQWorker:
    """A worker for the bundle `model` on the Redis at `url`; raises QueueUnavailable."""
    connection = open_client(url)
    with outages():
        connection.ping()
        return RQWorker(connection, open_client(url), model, lease_s=lease_s)


def _mapping(pairs: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash as a script gives it: name, value, name, value."""
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
