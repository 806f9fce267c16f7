"""Account: what a job's time was spent on, told as one line of the log and as spans when it ends here.

It is written down from the outside, by the intake's thread, when all is over: the engine knows nothing of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import structlog

from movq_core.protocol import EditRequest, GenerateRequest
from movq_core.tracing import SpanKind, Tracing
from worker.in_flight import InFlight

_FAILED = ("failed", "retried", "lost")

log = structlog.get_logger("movq.intake")


class Accounts:
    """Tells of jobs that have ended here: with success or without, for good or for another worker."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def close(self, entry: InFlight, outcome: str, error: str = "") -> None:
        """`outcome`: succeeded, failed or stopped; or retried, handed_back, lost or canceled elsewhere.

        `error` is what its caller reads.
        """
        ended_s = time.monotonic()
        told: dict[str, Any] = {
            "outcome": outcome,
            "kind": entry.kind,
            "model": entry.claim.model,
            "images": entry.images,
            "waited_s": round(entry.claim.waited_s, 4),
            "ran_s": round(ended_s - entry.taken_s, 4),
        }
        for phase in entry.phases:
            name = f"{phase.name.replace(' ', '_')}_s"  # more than once, when the store was away
            told[name] = round(told.get(name, 0.0) + phase.ended_s - phase.begun_s, 4)
        level = logging.WARNING if outcome in _FAILED else logging.INFO
        log.log(level, "a job ended", **entry.claim.ids, **told, **({"error": error} if error else {}))
        self._record(entry, outcome, ended_s)

    def _record(self, entry: InFlight, outcome: str, ended_s: float) -> None:
        """Its time in the queue, and its time here with all parts of it; a job without a trace begins one."""
        claim, tracing = entry.claim, self._tracing
        to_unix_s = time.time() - time.monotonic()
        taken_s = to_unix_s + entry.taken_s
        messaging = {
            "messaging.system": "rq",
            "messaging.destination.name": claim.queue,
            "messaging.message.id": claim.job_id,
        }
        if claim.enqueued_at is not None:
            enqueued_s = min(claim.enqueued_at.timestamp(), taken_s)  # by another clock
            tracing.record("queue", enqueued_s, taken_s, parent=claim.traceparent, attributes=messaging)
        parent = tracing.record(
            f"process {claim.queue}",
            taken_s,
            to_unix_s + ended_s,
            SpanKind.CONSUMER,
            parent=claim.traceparent,
            attributes=messaging | _attributes(entry, outcome),
            error_type=outcome if outcome in _FAILED else None,
        )
        for name, since_s, until_s in entry.phases:
            attributes = dict(_device_attributes(entry)) if name == "device" else {}
            begun_s, over_s = to_unix_s + since_s, to_unix_s + until_s
            tracing.record(name, begun_s, over_s, parent=parent, attributes=attributes)


def _attributes(entry: InFlight, outcome: str) -> dict[str, str | int | float | bool]:
    return {
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "movq.request_id": entry.claim.request_id or "",
        "movq.kind": entry.kind,
        "movq.images": entry.images,
        "movq.outcome": outcome,
        "movq.lost_before": entry.claim.lost,
    }


def _device_attributes(entry: InFlight) -> Iterator[tuple[str, int]]:
    """Each image has a row of its own, and takes its steps in it."""
    if isinstance(entry.request, GenerateRequest | EditRequest):
        yield "movq.rows", entry.images
        yield "movq.steps", entry.request.sampling.steps
