"""Scheduler: who waits, who runs in which row. No tensor, no device, no lock."""

from __future__ import annotations

from collections import deque

from worker.generation import Generation


class Scheduler:
    """First come, first served into `rows` rows, taken from a free-list; owned by the engine thread.

    A generation is `waiting` (no row) or `running` (one row), or the scheduler no longer knows it.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.waiting: deque[Generation] = deque()
        self.running: dict[int, Generation] = {}
        self._free = list(range(rows - 1, -1, -1))  # popped from the end: the lowest row first

    def add(self, generation: Generation) -> None:
        self.waiting.append(generation)

    def admit(self) -> list[Generation]:
        """Give free rows to those who wait longest; returns the newcomers."""
        newcomers = []
        while self.waiting and self._free:
            generation = self.waiting.popleft()
            generation.row = self._free.pop()
            self.running[generation.row] = generation
            newcomers.append(generation)
        return newcomers

    def batch(self) -> list[Generation]:
        """All that run, by row: the next step's batch."""
        return [self.running[row] for row in sorted(self.running)]

    def retire(self, generation: Generation) -> None:
        """Take a running generation out; its row is free for the next step."""
        assert generation.row is not None
        del self.running[generation.row]
        self._free.append(generation.row)
        generation.row = None

    def cancel(self, job_id: str) -> list[Generation]:
        """Drop every generation of a job, waiting or running; returns those dropped."""
        dropped = [g for g in self.waiting if g.job_id == job_id]
        self.waiting = deque(g for g in self.waiting if g.job_id != job_id)
        for generation in [g for g in self.running.values() if g.job_id == job_id]:
            self.retire(generation)
            dropped.append(generation)
        return dropped
