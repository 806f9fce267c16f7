"""Intake: the thread that stands between the queue and the engine.

It takes jobs while it has credits, lets the pool load them, gives them to the engine, lets the pool
store what comes back, and ends each job on its own. It is the one writer of its table, and the only
thread that takes and ends jobs; the engine never waits for Redis. The engine's outbox is its mailbox: the
pool, the doorbell and the listener for commands put their news there too, so that one wait hears them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

import structlog

from movq_core.errors import BlobStoreUnavailable, DeviceFault, MovqError, QueueUnavailable
from movq_core.protocol import GenerateRequest, JobOutput, PreviewEvent, Request, StepEvent
from movq_core.tracing import NO_TRACING, Tracing
from worker.account import Accounts
from worker.claim import Claim, Ending, Lease
from worker.doorbell import Doorbell
from worker.in_flight import InFlight, failure_of, images_of
from worker.metrics import WorkerMetrics
from worker.pool import ImagePool
from worker.rq_worker import RQWorker
from worker.work import Cancel, FromEngine, Outcome, Preview, Progress, ToEngine, Watch, Work

LOOK_S = 0.25  # without news, how often deadlines and renewals are looked at
REAP_EVERY_S = 2.0
MAX_BACKOFF_S = 1.0
REUNION_S = 7.0  # at first and after an outage: others may have to prove their leases before any is reaped
STORE_AGAIN_S = 1.0

log = structlog.get_logger("movq.intake")


class Intake:
    """Owns every job between the queue and its end."""

    def __init__(
        self,
        worker: RQWorker,
        pool: ImagePool,
        inbox: SimpleQueue[ToEngine],
        outbox: SimpleQueue[FromEngine],
        metrics: WorkerMetrics,
        *,
        credits: int,
        renew_s: float = 3.0,
        grace_s: float = 25.0,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._worker = worker
        self._pool = pool
        self._inbox = inbox
        self._mailbox: SimpleQueue[Any] = outbox  # of what the engine says, and of news: what to do about it
        self._metrics = metrics
        self._accounts = Accounts(tracing)
        self._credits = credits  # images on their way to pixels: the engine's rows and a few more
        self._renew_every_s = renew_s
        self._grace_s = grace_s
        self._table: dict[str, InFlight] = {}
        self._alone: InFlight | None = None  # while it is in the table, nothing is taken beside it
        self._ready: list[InFlight] = []  # ended by the engine, not yet in Redis
        self._put_off: list[Callable[[], None]] = []  # what the blob store did not do, to be tried again
        self._store_again_at_s = 0.0
        self._doorbell = Doorbell(worker.bells, lambda: self._tell(lambda: None))
        worker.on_stop = lambda job_id: self._tell(lambda: self._on_stop(job_id))
        worker.on_watch = lambda job_id, watched: self._tell(lambda: self._on_watch(job_id, watched))
        self._renew_at_s = 0.0
        self._reap_at_s = time.monotonic() + REUNION_S
        self._draining = threading.Event()
        self._thread = threading.Thread(target=self._run, name="movq-intake", daemon=True)

    # -- called by the main thread --------------------------------------------------------------

    def start(self) -> None:
        self._doorbell.start()
        self._thread.start()

    def drain(self) -> None:
        """Take no more; finish what is in flight within the grace, hand the rest back, end."""
        self._draining.set()
        self._tell(lambda: None)

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    # -- the loop -------------------------------------------------------------------------------

    def _run(self) -> None:
        backoff_s = grace_until_s = 0.0
        while True:
            if self._draining.is_set():
                grace_until_s = grace_until_s or time.monotonic() + self._grace_s
                if not self._table or time.monotonic() >= grace_until_s:
                    break
            try:
                self._tick()
                backoff_s = 0.0
            except QueueUnavailable as error:
                # The rows stay on the device. Leases are proved first thing when Redis is back.
                self._renew_at_s = 0.0
                self._reap_at_s = time.monotonic() + REUNION_S
                self._metrics.redis_error()
                backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s or 0.1)
                log.warning("redis is away", error=str(error), in_flight=len(self._table))
                time.sleep(backoff_s)
        self._leave()

    def _tick(self) -> None:
        if time.monotonic() >= self._renew_at_s:
            self._renew()
        if time.monotonic() >= self._reap_at_s:
            self._reap()
        for entry in self._table.values():
            self._check_deadline(entry)
        self._tell_watchers()
        self._try_store_again()
        self._settle_ready()
        self._admit()
        self._read_mail()

    def _tell(self, news: Callable[[], None]) -> None:
        """Let the intake thread do this; callable from any thread."""
        self._mailbox.put(news)

    def _read_mail(self) -> None:
        """Wait until something happens, or nearly so, and do all that is to be done about it."""
        try:
            mail = self._mailbox.get(timeout=0 if self._ready else LOOK_S)
            while True:
                self._read(mail)
                mail = self._mailbox.get_nowait()
        except Empty:
            return

    def _read(self, mail: Any) -> None:
        match mail:
            case Outcome():
                self._on_outcome(mail)
            case Progress():
                self._on_progress(mail)
            case Preview():
                self._on_preview(mail)
            case _:
                mail()

    def _leave(self) -> None:
        """Hand back, oldest last so that it stands first in the queue; unregister."""
        handed_back = 0
        self._doorbell.close()
        try:
            self._settle_ready()
            for entry in reversed(self._table.values()):
                self._cancel(entry)
                handed_back += self._worker.give_back(entry.claim)
                self._accounts.close(entry, "handed_back")
            self._metrics.recovered("handed_back", handed_back)
            self._worker.close()
        except QueueUnavailable as error:
            log.warning("redis is away; what is in flight comes back by its leases", error=str(error))
        log.info("drained", handed_back=handed_back)

    # -- leases ---------------------------------------------------------------------------------

    def _renew(self) -> None:
        entries = list(self._table.values())
        renewals = self._worker.renew({entry.claim: entry.progress for entry in entries})
        for entry, (lease, watched, stop) in zip(entries, renewals, strict=True):
            if lease is not Lease.OWNED:
                self._drop(entry, lease)
                continue
            self._watch(entry, watched)
            if stop:
                self._on_stop(entry.claim.job_id)
        self._renew_at_s = time.monotonic() + self._renew_every_s

    def _reap(self) -> None:
        for reason, jobs in self._worker.reap().items():
            if jobs:
                self._metrics.recovered(reason, jobs)
        self._reap_at_s = time.monotonic() + REAP_EVERY_S

    def _drop(self, entry: InFlight, lease: Lease) -> None:
        """The job is not ours any more: free its rows and say nothing to Redis."""
        self._table.pop(entry.claim.job_id, None)
        self._cancel(entry)
        if lease is Lease.LOST:
            self._metrics.lease_lost()
        else:
            self._count_end(entry, lease.value)
        self._accounts.close(entry, lease.value)

    def _cancel(self, entry: InFlight) -> None:
        if entry.work is not None:
            self._inbox.put(Cancel(entry.claim.job_id))

    # -- taking ---------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Take jobs while there is room; the bell tells when there are more."""
        self._release_held()
        if self._draining.is_set() or self._worker.suspended or self._doorbell.is_armed():
            return
        if self._alone or (room := self._room()) <= 0:
            return
        for claim in self._worker.take(room):
            self._begin(claim)
        if not self._alone and self._room() > 0:
            self._doorbell.arm()

    def _room(self) -> int:
        """Images that may be taken: what the pool stores holds no row, but there must be an end to it."""
        entries = self._table.values()
        before = sum(entry.images for entry in entries if not entry.has_outcome)
        return min(self._credits - before, 2 * self._credits - sum(entry.images for entry in entries))

    def _begin(self, claim: Claim) -> None:
        self._metrics.taken(claim.waited_s)
        if stale := self._table.get(claim.job_id):
            # Redis forgot that we had it (it came back from an older AOF) and gave it to us again.
            self._drop(stale, Lease.LOST)
        log.debug("took a job", **claim.ids)
        entry = InFlight(claim, kind="unknown", images=1, taken_s=time.monotonic(), is_watched=claim.watched)
        self._table[claim.job_id] = entry
        if claim.is_expired:
            self._end(entry, claim.overdue())
            return
        try:
            request = claim.request()
        except MovqError as error:
            self._end(entry, Ending("failed", message=str(error)))
            return
        entry.request, entry.kind, entry.images = request, request.kind.value, images_of(request)
        if claim.must_run_alone:
            log.warning("a job that lost its workers runs alone", **claim.ids)
            self._alone, entry.held = entry, request
            self._release_held()
        else:
            self._load(entry, request)

    def _load(self, entry: InFlight, request: Request) -> None:
        if isinstance(request, GenerateRequest):  # brings no bytes: it need not wait for the pool
            self._give(entry, Work(entry.claim.job_id, request))
            return
        future = self._pool.load(entry.claim.job_id, request)
        future.add_done_callback(lambda done: self._tell(lambda: self._on_loaded(entry, request, done)))

    def _release_held(self) -> None:
        """Start the job that runs alone once it is alone; take others again once it is gone."""
        if self._alone and not self._is_current(self._alone):
            self._alone = None
        if self._alone and self._alone.held and len(self._table) == 1:
            request, self._alone.held = self._alone.held, None
            self._load(self._alone, request)

    # -- watching -------------------------------------------------------------------------------

    def _on_watch(self, job_id: str, watched: bool) -> None:
        if entry := self._table.get(job_id):
            self._watch(entry, watched)

    def _watch(self, entry: InFlight, watched: bool) -> None:
        """Let the engine know when that is news to it."""
        if entry.is_watched == watched:
            return
        entry.is_watched = watched
        if entry.work is not None:
            self._inbox.put(Watch(entry.claim.job_id, watched))

    def _on_progress(self, progress: Progress) -> None:
        if entry := self._table.get(progress.job_id):
            entry.progress = progress.taken / progress.steps
            if entry.is_watched:
                entry.tell(StepEvent(taken=progress.taken, steps=progress.steps, known=progress.known))

    def _on_preview(self, preview: Preview) -> None:
        if (entry := self._table.get(preview.job_id)) and entry.is_watched:
            future = self._pool.store_preview(preview)
            future.add_done_callback(lambda done: self._tell(lambda: self._on_preview_stored(entry, done)))

    def _on_preview_stored(self, entry: InFlight, done: Future[PreviewEvent]) -> None:
        if error := done.exception():
            log.warning("a preview was not stored", **entry.claim.ids, error=str(error))
        else:
            entry.tell(done.result())

    def _tell_watchers(self) -> None:
        """What was not told yet; what could not be told is left out, rather than told twice."""
        news = {entry.claim: entry.take_news() for entry in self._table.values() if entry.news}
        self._worker.tell(news)

    # -- collecting -----------------------------------------------------------------------------

    def _on_stop(self, job_id: str) -> None:
        if entry := self._table.get(job_id):
            self._condemn(entry, Ending("stopped", message="stopped on request"))

    def _check_deadline(self, entry: InFlight) -> None:
        limit_s = entry.claim.limit_s
        if limit_s is not None and time.monotonic() - entry.taken_s > limit_s and entry.ending is None:
            self._condemn(entry, entry.claim.overdue())

    def _condemn(self, entry: InFlight, verdict: Ending) -> None:
        """The job ends by `verdict`, as soon as the pool or the engine lets go of it."""
        if entry.verdict is not None:
            return
        entry.verdict = verdict
        self._cancel(entry)
        if entry.held:
            entry.held = None
            self._end(entry, verdict)

    def _on_loaded(self, entry: InFlight, request: Request, done: Future[Work]) -> None:
        if not self._is_current(entry):
            return
        entry.spent("load")
        error = done.exception()
        if entry.verdict is None and isinstance(error, BlobStoreUnavailable):
            self._put_off_for(entry, error, lambda: self._load(entry, request))
        elif ending := entry.verdict or (failure_of(error, entry.claim) if error else None):
            self._end(entry, ending)
        else:
            self._give(entry, done.result())

    def _give(self, entry: InFlight, work: Work) -> None:
        """To the engine."""
        entry.work = replace(work, watched=entry.is_watched, request_id=entry.claim.request_id)
        self._inbox.put(entry.work)

    def _on_outcome(self, outcome: Outcome) -> None:
        entry = self._table.get(outcome.work.job_id)
        # Identity, not the id: the outcome may be of an earlier try whose lease was lost.
        if entry is None or entry.work is not outcome.work:
            return
        if isinstance(outcome.error, DeviceFault):
            return  # The process ends now; the lease runs out, and the job spends a retry.
        entry.work, entry.has_outcome = None, True
        if outcome.started_s:  # nobody knows when one that failed began
            entry.spent("row wait", outcome.started_s)
        entry.spent("device", outcome.finished_s)
        if ending := entry.verdict or (failure_of(outcome.error, entry.claim) if outcome.error else None):
            self._end(entry, ending)
        elif outcome.cancelled:
            self._end(entry, Ending("failed", message="the engine dropped the job", retry=True))
        else:
            self._store(entry, outcome)

    def _store(self, entry: InFlight, outcome: Outcome) -> None:
        future = self._pool.store(outcome)
        future.add_done_callback(lambda done: self._tell(lambda: self._on_stored(entry, outcome, done)))

    def _on_stored(self, entry: InFlight, outcome: Outcome, done: Future[JobOutput]) -> None:
        if not self._is_current(entry):
            return
        entry.spent("store")
        error = done.exception()
        if entry.verdict is None and isinstance(error, BlobStoreUnavailable):
            self._put_off_for(entry, error, lambda: self._store(entry, outcome))
        else:
            success = None if error else Ending("succeeded", output=done.result())
            self._end(entry, entry.verdict or success or failure_of(error, entry.claim))

    def _put_off_for(self, entry: InFlight, error: BlobStoreUnavailable, again: Callable[[], None]) -> None:
        """An outage of the store is not the job's fault: it waits, for as long as it may take at all."""
        if not self._put_off:
            log.warning("the blob store is away", **entry.claim.ids, error=repr(error.__cause__))
            self._store_again_at_s = time.monotonic() + STORE_AGAIN_S
        self._put_off.append(again)

    def _try_store_again(self) -> None:
        if self._put_off and time.monotonic() >= self._store_again_at_s:
            put_off, self._put_off = self._put_off, []
            for again in put_off:
                again()

    def _is_current(self, entry: InFlight) -> bool:
        return self._table.get(entry.claim.job_id) is entry

    # -- ending ---------------------------------------------------------------------------------

    def _end(self, entry: InFlight, ending: Ending) -> None:
        entry.ending = ending
        self._ready.append(entry)

    def _settle_ready(self) -> None:
        """Tell Redis how jobs ended; what could not be told stays for the next time."""
        ready = [entry for entry in self._ready if self._is_current(entry)]
        leases = self._worker.end([(entry.claim, entry.ended) for entry in ready])
        self._ready.clear()
        for entry, lease in zip(ready, leases, strict=True):
            self._settle(entry, lease)

    def _settle(self, entry: InFlight, lease: Lease) -> None:
        if lease is not Lease.OWNED:
            self._drop(entry, lease)
            return
        ending, claim = entry.ended, entry.claim
        how = "retried" if ending.retry and claim.has_retries else ending.how
        del self._table[claim.job_id]
        entry.spent("end")
        self._accounts.close(entry, how, ending.message)
        self._count_end(entry, how)

    def _count_end(self, entry: InFlight, how: str) -> None:
        self._metrics.completed(
            entry.kind, how, time.monotonic() - entry.taken_s, waited_s=entry.claim.waited_s
        )
