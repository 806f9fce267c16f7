"""Point: what one offered load came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.requests import equal_requests, mixed_requests, poisson_arrivals
from benchmarks.serving.servers import Server
from benchmarks.serving.visit import Visit, visit

RAMP_SHARE = 0.2  # of each point's time, in which the queue finds its length; it does not count


@dataclass(frozen=True)
class Point:
    """Rates in images a second, over the time that counts; latencies from an image's planned arrival on."""

    load: float  # offered, as a share of the capacity
    offered: float
    goodput: float
    refused: float
    p50_s: float
    p95_s: float
    p99_s: float
    retry_after_s: dict[int, int]  # how often it was told
    refusal_p50_s: float  # how long a refusal took
    client_late_s: float  # at the worst
    cores: dict[str, float]  # processors that each part kept busy

    @classmethod
    def measure(cls, server: Server, capacity: float, load: float, seconds: float, mixed: bool) -> Point:
        """Poisson arrivals for `seconds`, in an open loop: who comes does not wait for who came before."""
        seed = round(1000 * load)
        count = max(1, round(load * capacity * seconds))
        requests = (mixed_requests if mixed else equal_requests)(count, seed)
        arrivals_s = poisson_arrivals(count, load * capacity, seed)
        return cls.of(visit(server, requests, arrivals_s=arrivals_s, may_refuse=True), load, arrivals_s)

    @classmethod
    def of(cls, done: Visit, load: float, arrivals_s: list[float]) -> Point:
        last_s = arrivals_s[-1]
        first_s = RAMP_SHARE * last_s
        counted_s = last_s - first_s
        took_s = [a.took_s for a in done.answers if first_s <= a.asked_s]
        p50_s, p95_s, p99_s = np.quantile(took_s, (0.5, 0.95, 0.99)) if took_s else (0.0, 0.0, 0.0)
        ended_s = [a.asked_s + a.took_s for a in done.answers]
        refusals = [refusal for refusal in done.refusals if first_s <= refusal.asked_s]
        return cls(
            load=load,
            offered=sum(first_s <= at_s for at_s in arrivals_s) / counted_s,
            goodput=sum(first_s <= at_s <= last_s for at_s in ended_s) / counted_s,
            refused=len(refusals) / counted_s,
            p50_s=float(p50_s),
            p95_s=float(p95_s),
            p99_s=float(p99_s),
            retry_after_s=dict(sorted(Counter(r.retry_after_s for r in refusals).items())),
            refusal_p50_s=float(np.median([r.took_s for r in refusals])) if refusals else 0.0,
            client_late_s=done.late_s,
            cores={part: seconds / done.wall_s for part, seconds in done.cpu_s.items()},
        )

    def row(self) -> list[str]:
        """For a table with HEADINGS."""
        told = ", ".join(f"{seconds} s: {times}" for seconds, times in self.retry_after_s.items())
        return [
            f"{self.load:g}", f"{self.offered:.2f}", f"{self.goodput:.2f}", f"{self.refused:.2f}",
            f"{self.p50_s:.2f}", f"{self.p95_s:.2f}", f"{self.p99_s:.2f}", told,
            f"{1000 * self.refusal_p50_s:.0f}", f"{1000 * self.client_late_s:.0f}",
        ]  # fmt: skip


HEADINGS = (
    "load", "offered/s", "goodput/s", "refused/s", "p50, s", "p95, s", "p99, s", "Retry-After, how often",
    "a refusal, ms", "clients late, ms",
)  # fmt: skip
