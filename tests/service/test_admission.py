"""The bound on the queue, and when to come back."""

from __future__ import annotations

import pytest

from movq_core.errors import QueueFull
from movq_core.protocol import Priority
from service.admission import Admission, Count, Load
from service.pace import InFlight


def load(images_per_s: float = 0.0, **queued: int) -> Load:
    """Jobs of two images each wait, as many as `queued` says by priority; four images run."""
    waiting = {Priority(name): Count(jobs, 2 * jobs) for name, jobs in queued.items()}
    return Load(waiting, [InFlight(2, age_s=0.0)] * 2, images_per_s)


def test_room_for_exactly_this_many() -> None:
    Admission(20).check(6, load(normal=5))
    with pytest.raises(QueueFull, match="14 images are waiting or running, and at most 20"):
        Admission(20).check(7, load(normal=3, low=2))


@pytest.mark.parametrize(
    ("images_per_s", "retry_after_s"),
    [(0.0, 30), (0.5, 8), (3.0, 2), (1000.0, 1), (0.001, 120)],  # both that run are as young as can be
)
def test_when_to_come_back(images_per_s: float, retry_after_s: int) -> None:
    with pytest.raises(QueueFull) as caught:
        Admission(14).check(4, load(images_per_s, normal=5))  # 4 have to leave first
    assert caught.value.retry_after_s == retry_after_s


def test_how_long_a_job_will_wait() -> None:
    """Of its own queue what stands before it; of the others what their weights let in meanwhile."""
    assert load(normal=3).estimated_wait_s(Priority.NORMAL, 3) is None
    assert load(2.0, normal=3).estimated_wait_s(Priority.NORMAL, 1) == 0.0
    assert load(2.0, normal=3).estimated_wait_s(Priority.NORMAL, 3) == 4 / 2.0
    assert load(2.0, low=3, high=100).estimated_wait_s(Priority.LOW, 3) == (4 + 5 * 4) / 2.0
    assert load(2.0, low=3, high=1).estimated_wait_s(Priority.LOW, 3) == (4 + 2) / 2.0
    assert load(2.0, low=100, high=3).estimated_wait_s(Priority.HIGH, 3) == (4 + 5 / 4) / 2.0
