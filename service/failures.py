"""Failure: from what RQ keeps of an exception to one sentence for the caller."""

from __future__ import annotations

import re

_UNKNOWN = "The job failed in the worker, which gave no reason."
_ABANDONED = "The worker that ran this job went away, and the job had no tries left."
_EXCEPTION_NAME = re.compile(r"^[A-Za-z_][\w.]*(?:: |$)")
_OURS = re.compile(r"^movq_core\.errors\.\w+: ")


def failure_sentence(text: str | None) -> str:
    """The last line of `text`, a traceback or a sentence, without the exception's module path.

    The lines above it name files and code, and are for the worker's log only.
    """
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    if not lines:
        return _UNKNOWN
    last = lines[-1]
    if "AbandonedJobError" in last:
        return _ABANDONED
    if ours := _OURS.match(last):
        return last[ours.end() :]
    if (name := _EXCEPTION_NAME.match(last)) and "." in name.group():
        return last[name.group().rindex(".") + 1 :]
    return last
