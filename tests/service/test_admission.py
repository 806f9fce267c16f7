"""The bound on the queue, and when to come back."""

from __future__ import annotations

import pytest

from movq_core.errors import QueueFull
from service.admission import Admission, Load

LOAD = Load(queued_jobs=3, queued_images=10, running_jobs=2, running_images=4)


def test_room_for_exactly_this_many() -> None:
    Admission(20).check(6, LOAD, lambda: pytest.fail("the rate is not asked while there is room"))
    with pytest.raises(QueueFull, match="14 images are waiting or running, and at most 20"):
        Admission(20).check(7, LOAD, lambda: 1.0)


@pytest.mark.parametrize(
    ("images_per_s", "retry_after_s"),
    [(0.0, 30), (0.5, 8), (3.0, 2), (1000.0, 1), (0.001, 120)],
)
def test_when_to_come_back(images_per_s: float, retry_after_s: int) -> None:
    with pytest.raises(QueueFull) as caught:
        Admission(14).check(4, LOAD, lambda: images_per_s)  # 4 have to leave first
    assert caught.value.retry_after_s == retry_after_s
