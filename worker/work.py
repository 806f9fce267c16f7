"""What passes between the RQ thread and the engine thread: Work in, Outcome out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from movq_core.protocol import Request
from movq_core.tiles import Codes, Pixels


@dataclass(frozen=True)
class Work:
    """One job, with its inputs already off the wire.

    `pixels` for reconstruct and encode; `codes`, with the image's `size` (height, width), for decode.
    """

    job_id: str
    request: Request
    pixels: Pixels | None = None
    codes: Codes | None = None
    size: tuple[int, int] | None = None
    received_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Cancel:
    """Drop this job: its rows retire undecoded, and an Outcome with `cancelled` is sent."""

    job_id: str


@dataclass(frozen=True)
class Outcome:
    """How one job ended: with images and/or codes, cancelled, or with `error` (and nothing else).

    `seeds` belong to generations, one an image.
    """

    work: Work
    images: tuple[Pixels, ...] = ()
    seeds: tuple[int, ...] = ()
    codes: Codes | None = None
    started_s: float = 0.0  # time.monotonic() of the first step on the device
    finished_s: float = 0.0
    error: Exception | None = None
    cancelled: bool = False
