"""Retries: when a request is sent again, after how long, and when that ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from movq_client.errors import Overloaded, ServerUnavailable

_backoff = wait_random_exponential(multiplier=0.25, max=8.0)


@dataclass(frozen=True)
class Retries:
    """A request that got no answer, or 429, 502, 503 or 504, is sent again.

    That is safe: whatever is not only read carries an Idempotency-Key, so that the server makes one job of
    all attempts. The pause is the server's Retry-After where it sent one, else it grows from a quarter of a
    second to eight. `attempts` and `total_s` bound it: a pause that would last longer is not begun.
    """

    attempts: int = 8
    total_s: float = 120.0

    def policy(self) -> dict[str, Any]:
        """Arguments of tenacity's `Retrying` and `AsyncRetrying`."""
        return {
            "retry": retry_if_exception_type((Overloaded, ServerUnavailable)),
            "wait": pause_s,
            "stop": stop_after_attempt(self.attempts) | stop_before_delay(self.total_s),
            "reraise": True,
        }


def pause_s(state: RetryCallState) -> float:
    """Seconds until the next attempt."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, Overloaded | ServerUnavailable) else None
    return _backoff(state) if asked_s is None else asked_s
