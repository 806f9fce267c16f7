"""Nothing that was accepted is lost: real processes, killed for real."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.events import JobEvent, JobEvents
from service.settings import Settings
from tests.end_to_end.stack import Stack, until

pytestmark = pytest.mark.slow

SLOW = {"MOVQ_ROWS": "2", "MOVQ_PREFETCH": "200"}  # many jobs in flight, few images at once
ALL_WITHIN_S = 30.0


def all_succeeded(stack: Stack, job_ids: list[str]) -> Callable[[], bool]:
    return lambda: set(stack.statuses(job_ids)) == {"succeeded"}


def test_a_killed_workers_jobs_all_succeed_once(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW)
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    assert stack.in_flight() >= 8
    stack.kill("worker")
    seconds = until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "all succeed")
    stack.assert_at_rest(job_ids)
    assert "worker was killed by signal 9" in stack.output()
    print(f"\nworker killed: all {len(job_ids)} done after {seconds:.1f} s")


def test_a_terminated_worker_finishes_what_it_has(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW)
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8 and stack.queued() == 0, 10, "all are taken")
    worker = stack.children()["worker"]
    began_s = time.monotonic()
    os.kill(worker, signal.SIGTERM)
    until(lambda: stack.children().get("worker") != worker, 30, "the worker ends")
    drained_s = time.monotonic() - began_s
    # It took all twelve before the signal, so it has finished all twelve: none waits for a lease.
    assert set(stack.statuses(job_ids)) == {"succeeded"}
    stack.assert_at_rest(job_ids)
    print(f"\nworker drained in {drained_s:.1f} s")


def test_a_drain_beyond_its_grace_hands_back_at_once(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW, MOVQ_GRACE_S="0")
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    stack.kill("worker", signal.SIGTERM)
    seconds = until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "the next worker has done them")
    stack.assert_at_rest(job_ids)
    assert stack.retries_left(job_ids) == {2}, "no lease had to run out"
    print(f"\nhanded back: all done after {seconds:.1f} s")


def test_a_killed_redis_comes_back_with_everything_it_accepted(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW)
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    stack.kill("redis")
    until(lambda: stack.get("/readyz").status_code == 200, 15, "ready again")
    seconds = until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "all succeed")
    stack.assert_at_rest(job_ids)
    print(f"\nredis killed: all {len(job_ids)} done {seconds:.1f} s after it was back")


def test_what_was_in_flight_at_ctrl_c_goes_on_at_the_next_start(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW, MOVQ_GRACE_S="0")
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    assert stack.interrupt() == 0
    stack.start()
    until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "all succeed")
    stack.assert_at_rest(job_ids)
    assert stack.retries_left(job_ids) == {2}


def test_a_stop_reaches_its_job_after_redis_came_back(launch: Callable[..., Stack]) -> None:
    stack = launch(**SLOW)
    stack.kill("redis")
    until(lambda: stack.get("/readyz").status_code == 200, 15, "ready again")
    time.sleep(2.0)  # the listener connects again within a second
    job_ids = stack.submit_slow(12)
    # All of them: a job that is cancelled while it waits has no result to count.
    until(lambda: stack.in_flight() == 12, 10, "all in flight")
    stack.cancel(job_ids[-1])
    until(lambda: stack.job(job_ids[-1])["status"] == "cancelled", 5, "cancelled")
    until(all_succeeded(stack, job_ids[:-1]), ALL_WITHIN_S, "the others succeed")
    stack.assert_at_rest(job_ids)


def test_rq_info_tells_the_truth(launch: Callable[..., Stack]) -> None:
    stack = launch(MOVQ_ROWS="2", MOVQ_PREFETCH="30")  # credits of 32 images: 8 jobs
    stack.submit_slow(20)
    # Between the end of one job and the claim of the next there are seven, truly.
    until(lambda: "8 executing" in stack.rq_info(), 10, "8 executing")
    told = stack.rq_info()
    assert "busy" in told
    assert "1 workers, 1 queues" in told


SHORT_LEASE = {"MOVQ_LEASE_S": "4", "MOVQ_RENEW_S": "1"}


def test_a_frozen_worker_loses_its_jobs_to_a_live_one(launch: Callable[..., Stack]) -> None:
    """It wakes with rows whose leases are lost: it must drop them, and finish none a second time."""
    stack = launch(**SLOW, **SHORT_LEASE)
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    stack.kill("worker", signal.SIGSTOP)
    with stack.second_worker():
        until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "the other one does them all")
        stack.kill("worker", signal.SIGCONT)
        until(lambda: '"outcome": "lost"' in stack.log("worker"), 10, "the frozen one lets go")
        time.sleep(1.0)
        stack.assert_at_rest(job_ids)


def test_a_redis_that_is_silent_for_longer_than_a_lease_costs_nothing(launch: Callable[..., Stack]) -> None:
    """Leases are proved before anything is reaped: no job runs twice, none spends a retry."""
    stack = launch(**SLOW, **SHORT_LEASE)
    job_ids = stack.submit_slow(12)
    until(lambda: stack.in_flight() >= 8, 10, "8 in flight")
    redis = stack.children()["redis"]
    os.kill(redis, signal.SIGSTOP)
    time.sleep(7.0)
    os.kill(redis, signal.SIGCONT)
    until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "all succeed")
    stack.assert_at_rest(job_ids)
    assert "redis is away" in stack.log("worker")
    assert stack.retries_left(job_ids) == {2}


def heard(redis_url: str, job_id: str) -> list[JobEvent]:
    """All that a listener is told of a job, from now until its end."""

    async def listen() -> list[JobEvent]:
        hub = JobEvents(Settings(redis_url=redis_url))
        events = [event async for event in hub.watch(job_id)]
        await hub.close()
        return events

    return asyncio.run(listen())


def test_who_listens_hears_that_a_killed_workers_job_runs_again(launch: Callable[..., Stack]) -> None:
    """And that Redis was killed while he listened changes nothing."""
    stack = launch(**SLOW, **SHORT_LEASE)
    job_ids = stack.submit_slow(12)
    with ThreadPoolExecutor() as pool:
        hearing = pool.submit(heard, stack.redis_url, job_ids[-1])
        until(lambda: stack.in_flight() == 12, 10, "all in flight")
        until(lambda: stack.is_watched(job_ids[-1]), 10, "somebody listens")
        stack.kill("worker")
        until(lambda: stack.retries_left(job_ids[-1:]) == {1}, 30, "its lease runs out")
        stack.kill("redis")
        until(lambda: stack.get("/readyz").status_code == 200, 30, "ready again")
        until(all_succeeded(stack, job_ids), ALL_WITHIN_S, "all succeed")
        events = hearing.result(20)
    stack.assert_at_rest(job_ids)
    told = [event.type.value for event in events if event.type.value not in ("step", "preview")]
    assert told[-4:] == ["started", "queued", "started", "done"]
    assert "step" in {event.type.value for event in events}
    ids = [tuple(map(int, event.id.split("-"))) for event in events]
    assert ids == sorted(set(ids))
