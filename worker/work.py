"""What passes between the intake's thread and the engine's: `ToEngine` in, `FromEngine` out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from movq_core.edits import Mask
from movq_core.manifest import Manifest
from movq_core.protocol import Request
from movq_core.tiles import Codes, Pixels
from movq_core.window import Window

if TYPE_CHECKING:
    from worker.runner import Runner


@dataclass(frozen=True)
class Work:
    """One job, with its inputs already off the wire.

    `pixels` for reconstruct and encode; `codes`, with the image's `size` (height, width), for decode. For
    an edit `pixels` and `mask` are its `window` at the size that the model was trained for.
    """

    job_id: str
    request: Request
    pixels: Pixels | None = None
    codes: Codes | None = None
    size: tuple[int, int] | None = None
    mask: Mask | None = None
    window: Window | None = None
    watched: bool = False  # somebody wants its every Progress, and Previews
    request_id: str | None = None  # for the log
    received_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Cancel:
    """Drop this job: its rows retire undecoded, and an Outcome with `cancelled` is sent."""

    job_id: str


@dataclass(frozen=True)
class Watch:
    """From now on somebody watches this job, or nobody does any more."""

    job_id: str
    watched: bool


@dataclass(frozen=True)
class Exchange:
    """Go on with this runner, once what has begun with the old one is done."""

    runner: Runner


@dataclass(frozen=True)
class Outcome:
    """How one job ended: with images and/or codes, cancelled, or with `error` (and nothing else).

    `seeds` belong to generations and edits, one an image; an edit's images are its window, and `codes` those
    of the first. `manifest` is of the bundle that did it: another may serve by now.
    """

    work: Work
    images: tuple[Pixels, ...] = ()
    seeds: tuple[int, ...] = ()
    codes: Codes | None = None
    manifest: Manifest | None = None
    started_s: float = 0.0  # time.monotonic() of the first step on the device
    finished_s: float = 0.0
    error: Exception | None = None
    cancelled: bool = False


@dataclass(frozen=True)
class Progress:
    """Steps that a job's images have taken together, of how many; `known`: their share of settled codes.

    Told of a watched job after each step, of another now and then.
    """

    job_id: str
    taken: int
    steps: int
    known: float


@dataclass(frozen=True)
class Preview:
    """Image `index` of a watched job after `step` of its steps: RGBA (h, w, 4), transparent where masked."""

    job_id: str
    index: int
    step: int
    known: float
    pixels: Pixels
    owner: str | None = None  # the request's


ToEngine = Work | Cancel | Watch | Exchange
FromEngine = Outcome | Progress | Preview
