"""Doorbell: one ring for each arming."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest

from movq_core.errors import QueueUnavailable
from worker.doorbell import Doorbell


class Queue:
    """Has a job when a test says so; `rung` says for each ring whether it had."""

    def __init__(self) -> None:
        self.has_job = threading.Event()
        self.is_away = False
        self.rung: SimpleQueue[bool] = SimpleQueue()
        self.bell = Doorbell([self.jobs_wait] * 3, lambda: self.rung.put(self.has_job.is_set()))

    def jobs_wait(self, timeout_s: int) -> bool:
        if self.is_away:
            raise QueueUnavailable("away")
        return self.has_job.wait(min(timeout_s, 0.05))


@pytest.fixture
def queue() -> Iterator[Queue]:
    queue = Queue()
    queue.bell.start()
    yield queue
    queue.bell.close()


def is_silent(queue: Queue) -> bool:
    try:
        queue.rung.get(timeout=0.2)
    except Empty:
        return True
    return False


def test_it_rings_once_when_there_is_a_job_and_only_when_it_is_armed(queue: Queue) -> None:
    queue.has_job.set()
    assert is_silent(queue)
    queue.bell.arm()
    assert queue.rung.get(timeout=5)
    assert not queue.bell.is_armed()
    assert is_silent(queue)
    queue.has_job.clear()
    queue.bell.arm()
    assert is_silent(queue)
    queue.has_job.set()
    assert queue.rung.get(timeout=5)


def test_an_outage_is_for_who_answers_the_bell(queue: Queue) -> None:
    queue.is_away = True
    queue.bell.arm()
    assert queue.rung.get(timeout=5) is False


def test_closed_it_is_silent(queue: Queue) -> None:
    queue.bell.arm()
    queue.bell.close()
    queue.has_job.set()
    assert is_silent(queue)
