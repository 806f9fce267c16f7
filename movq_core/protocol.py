"""What crosses the process boundary between service and worker, as plain JSON.

A job's RQ function name is its `JobKind`'s `function`; its only keyword argument is
`request`, one of the models below dumped with `model_dump(mode="json")`. Images and codes
travel as blobs; only their keys stand here. Each bundle has a queue for each priority.

Who listens to a job reads its events from a stream, which exists only while somebody does; see `EventType`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter

from movq_core.params import EditParams, SamplingParams

MAX_IMAGES = 16
WORKER_RECORD_S = 90  # a worker's record is kept for so long after each sign of life, by Redis' clock


class JobKind(StrEnum):
    GENERATE = "generate"
    RECONSTRUCT = "reconstruct"
    ENCODE = "encode"
    DECODE = "decode"
    EDIT = "edit"

    @property
    def function(self) -> str:
        """The RQ function name; interpreted by `worker/rq_worker.py`, never imported."""
        return f"movq.{self.value}"


class Priority(StrEnum):
    """Which of a bundle's queues a job waits in; a worker serves all three, the higher ones more."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def weight(self) -> int:
        """Share of a busy worker's images, beside the other queues that have any waiting."""
        return {Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}[self]


def queue_name(model: str, priority: Priority) -> str:
    """The RQ queue of one bundle's jobs of one priority."""
    return f"movq.{model}.{priority.value}"


def parse_queue_name(name: str) -> tuple[str, Priority]:
    """Model and priority of a job by its queue's name; raises ValueError when it is none of ours."""
    prefix, _, rest = name.partition(".")
    model, _, priority = rest.rpartition(".")
    if prefix != "movq" or not model:
        raise ValueError(f"{name!r} is no queue of movq's")
    return model, Priority(priority)


class EventType(StrEnum):
    """What a job's listeners are told, in this order; again from `queued` on when it changes workers."""

    QUEUED = "queued"
    STARTED = "started"
    STEP = "step"
    PREVIEW = "preview"
    DONE = "done"


class ImageFormat(StrEnum):
    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"


class Tiling(StrEnum):
    """How an image larger than a tile goes through the tokenizer.

    `tiles`: part by part, overlapping, in flat memory. `whole`: in one pass, so that norms and attention see
    all of it; memory grows with the image.
    """

    TILES = "tiles"
    WHOLE = "whole"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Request(_Message):
    """`owner`: the name of the API key that asked; its blobs are kept apart. None where there are no keys."""

    version: Literal[1] = 1
    owner: str | None = None


class GenerateRequest(_Request):
    """`num_images` images of one class; image i uses `derived_seed(sampling.seed, i)`."""

    kind: Literal[JobKind.GENERATE] = JobKind.GENERATE
    class_id: int | None = Field(default=None, ge=0)  # None: unconditional
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES)
    sampling: SamplingParams = SamplingParams()
    format: ImageFormat = ImageFormat.PNG


class ReconstructRequest(_Request):
    """Encode the PNG under `image_key` and decode its codes at the size that went in."""

    kind: Literal[JobKind.RECONSTRUCT] = JobKind.RECONSTRUCT
    image_key: str
    tiling: Tiling = Tiling.TILES
    format: ImageFormat = ImageFormat.PNG


class EncodeRequest(_Request):
    """The codes of the PNG under `image_key`, written as a `CodesDocument` blob."""

    kind: Literal[JobKind.ENCODE] = JobKind.ENCODE
    image_key: str
    tiling: Tiling = Tiling.TILES


class DecodeRequest(_Request):
    """The image of the `CodesDocument` under `codes_key`."""

    kind: Literal[JobKind.DECODE] = JobKind.DECODE
    codes_key: str
    tiling: Tiling = Tiling.TILES
    format: ImageFormat = ImageFormat.PNG


class EditRequest(EditParams, _Request):
    """`num_images` images that are the PNG under `image_key` but for what is made anew.

    That is where the PNG under `mask_key` (L, the same size) is not black; everywhere without one. Of the
    codes there, a share of `strength` is made anew, chosen by the seed, and the others are kept. The edge
    of the mask is blended over `feather_px` pixels; beyond them the image is as it was.
    """

    kind: Literal[JobKind.EDIT] = JobKind.EDIT
    image_key: str
    mask_key: str | None = None
    class_id: int | None = Field(default=None, ge=0)
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES)
    sampling: SamplingParams = SamplingParams()
    format: ImageFormat = ImageFormat.PNG


Request = GenerateRequest | ReconstructRequest | EncodeRequest | DecodeRequest | EditRequest
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])


def parse_request(data: object) -> Request:
    """The request in a job's `request` argument.

    Raises pydantic.ValidationError when it is none of ours.
    """
    return _REQUEST.validate_python(data)


# One error is enough: a hostile document would else cost an error object for each of its codes.
_Row = Annotated[list[int], FailFast()]
_Channel = Annotated[list[_Row], FailFast()]


class CodesDocument(_Message):
    """Codes as JSON: `codes[channel][row][column]`, and the pixels they stand for.

    `height` and `width` are the image's before it was padded to the grid.
    """

    model: str
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    codes: Annotated[list[_Channel], FailFast()]


class StepEvent(_Message):
    """Steps that a job's images have taken together, of how many; `known`: their share of settled codes."""

    taken: int
    steps: int
    known: float


class PreviewEvent(_Message):
    """Image `index` of a job after `step` of its steps; transparent where its codes are still masked."""

    index: int
    step: int
    known: float
    image_key: str


class Timings(_Message):
    """Seconds of a job's life inside the worker."""

    waited_s: float  # admitted by the worker -> first step on the device
    ran_s: float  # first step -> pixels
    encoded_s: float  # pixels -> bytes in the blob store


class Fidelity(_Message):
    """How a reconstruction compares with what went in, on 8-bit RGB."""

    psnr_db: float | None  # None: the two are equal (infinite)
    ssim: float | None  # None: smaller than SSIM's 11 x 11 window
    codes_bytes: int  # codes packed at log2(codebook_size) bits
    bits_per_pixel: float


class JobOutput(_Message):
    """What a succeeded job returns: keys of blobs, never bytes.

    `codes_key`: an encoding's codes, a reconstruction's, or those of an edit's first image.
    """

    image_keys: list[str] = []
    seeds: list[int] = []
    codes_key: str | None = None
    height: int
    width: int
    fidelity: Fidelity | None = None
    timings: Timings
