"""Schemas: what callers send, as JSON, as a form's fields or in the query."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    UrlConstraints,
    WithJsonSchema,
    field_validator,
)

from movq_core.edit_area import checked_box, checked_margins, edges_of
from movq_core.params import MAX_SEED, EditParams, SamplingParams
from movq_core.protocol import ImageFormat, Priority, Tiling
from service.job import Status
from service.settings import MAX_WAIT_S
from service.webhooks.destination import is_public

MAX_IMAGES_PER_REQUEST = 4
MAX_JOBS_LISTED = 100
MAX_BOXES = 64
MAX_SIDE = 2**16
DAY_S = 24 * 3600
_MODEL_NAME = Field(default=None, max_length=64, description="which bundle; the first one by default")


def _public_host(url: HttpUrl) -> HttpUrl:
    """Raises ValueError for a host that is plainly not a public one, or is to be told a password.

    Names are looked up when the webhook is sent, and their addresses are checked then.
    """
    if url.username or url.password:
        raise ValueError("a webhook is signed, and carries no user and password")
    host = (url.host or "").strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        raise ValueError(f"{host} is not a public host; a webhook goes to a public https address")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return url
    if not is_public(address):
        raise ValueError(f"{host} is a private address; a webhook goes to a public https address")
    return url


WebhookUrl = Annotated[
    HttpUrl,
    UrlConstraints(max_length=2048, allowed_schemes=["https"]),
    AfterValidator(_public_host),
    WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https://", "maxLength": 2048}),
]


class JobChoices(BaseModel):
    """How the job is treated, whatever it does."""

    model_config = ConfigDict(frozen=True)

    model: str | None = _MODEL_NAME
    priority: Priority = Field(default=Priority.NORMAL, description="which of the model's queues it waits in")
    deadline_s: float | None = Field(
        default=None,
        ge=0.1,
        le=DAY_S,
        allow_inf_nan=False,
        description="seconds within which it must have ended",
    )
    webhook_url: WebhookUrl | None = Field(
        default=None, description="told of its end: https, at a public address"
    )


def _without_sampling_defaults(schema: dict[str, Any]) -> None:
    """What is left out comes from the model's manifest (and a seed is drawn), not from a constant."""
    for name in SamplingParams.model_fields:
        schema["properties"][name].pop("default", None)


class GenerationFields(JobChoices, SamplingParams):
    """What is left out is chosen by the model; a missing seed is drawn."""

    model_config = ConfigDict(json_schema_extra=_without_sampling_defaults)

    class_id: int | None = Field(default=None, ge=0, description="null or absent: unconditional")
    class_name: str | None = Field(default=None, max_length=100, description="instead of class_id")
    num_images: int = Field(default=1, ge=1, le=MAX_IMAGES_PER_REQUEST)
    format: ImageFormat = ImageFormat.PNG


def _with_an_example(schema: dict[str, Any]) -> None:
    _without_sampling_defaults(schema)
    schema["examples"] = [{"class_id": 0, "steps": 8, "seed": 7, "num_images": 2}]


_NUMBERS = (
    "class_id", "num_images", "steps", "seed", "temperature", "choice_temperature", "guidance_scale", "top_k",
    "deadline_s",
)  # fmt: skip


def _a_number(value: Any) -> Any:
    """JSON has numbers; `"12"` and `true` are none (a form's fields are text, and are read as numbers)."""
    if isinstance(value, str | bool):
        raise ValueError("input should be a number, without quotes")  # noqa: TRY004 - pydantic wants it
    return value


class GenerationBody(GenerationFields):
    """Body of a generation. What is left out is chosen by the model; a missing seed is drawn."""

    model_config = ConfigDict(json_schema_extra=_with_an_example)

    @field_validator(*_NUMBERS, mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        return _a_number(value)


def _edges(value: Any) -> Any:
    return edges_of(value) if isinstance(value, str) else value


_PATTERN = r"^\d{1,5},\d{1,5},\d{1,5},\d{1,5}$"
_Side = Annotated[int, Field(ge=0, lt=MAX_SIDE)]
_Edges = tuple[_Side, _Side, _Side, _Side]
Box = Annotated[
    _Edges,
    BeforeValidator(_edges),
    AfterValidator(checked_box),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["8,8,40,40"]}),
]
Expand = Annotated[
    _Edges,
    BeforeValidator(_edges),
    AfterValidator(checked_margins),
    WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["0,0,32,0"]}),
]


class EditFields(EditParams, GenerationFields):
    """Fields of an edit's form beside its files, `image` and `mask`."""

    box: list[Box] = Field(
        default=[], max_length=MAX_BOXES, description="left,top,right,bottom in pixels; may be repeated"
    )
    expand: Expand | None = Field(
        default=None, description="left,top,right,bottom: pixels to add around the image and to fill"
    )


class ShortQuery(BaseModel):
    """Query of the short face."""

    wait: float | None = Field(
        default=None, ge=0, le=MAX_WAIT_S, allow_inf_nan=False,
        description="seconds to wait for the result before answering 202",
    )  # fmt: skip


class WatchedQuery(BaseModel):
    """Query of a `POST /v1/...` that starts a job."""

    watched: bool = Field(
        default=False,
        description="somebody is about to listen to the job's events: keep them from the first on",
    )


class TilingQuery(JobChoices):
    tiling: Tiling = Tiling.TILES


class EncodeQuery(ShortQuery, TilingQuery):
    """Query of `/encode`."""


class EncodingQuery(WatchedQuery, TilingQuery):
    """Query of `/v1/encodings`."""


class ImageQuery(ShortQuery, TilingQuery):
    """Query of `/reconstruct` and `/decode`."""

    format: ImageFormat | None = None


class ImageJobQuery(WatchedQuery, TilingQuery):
    """Query of `/v1/reconstructions` and `/v1/decodings`."""

    format: ImageFormat = ImageFormat.PNG


class JobsQuery(BaseModel):
    """Query of the list of jobs."""

    limit: int = Field(default=20, ge=1, le=MAX_JOBS_LISTED)
    status: Status | None = None


class SessionBody(BaseModel):
    """Body of `POST /v1/session`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str = Field(min_length=1, max_length=256)


class OpenAIFields(BaseModel):
    """What OpenAI's two image routes share. The last ones are taken and change nothing here."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    prompt: str = Field(min_length=1, max_length=4000, description="names a class, by name or id")
    model: str | None = _MODEL_NAME
    n: int = Field(default=1, ge=1, le=MAX_IMAGES_PER_REQUEST)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    response_format: Literal["url", "b64_json"] = "url"
    output_format: ImageFormat = ImageFormat.PNG

    size: str | None = Field(default=None, max_length=32, description="ignored: a model has one size")
    quality: str | None = Field(default=None, max_length=32, description="ignored")
    background: str | None = Field(default=None, max_length=32, description="ignored")
    output_compression: int | None = Field(default=None, ge=0, le=100, description="ignored")
    user: str | None = Field(default=None, max_length=256, description="ignored")


class OpenAIGeneration(OpenAIFields):
    """Body of OpenAI's image generation."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"prompt": "0", "n": 1, "seed": 7}]})

    style: str | None = Field(default=None, max_length=32, description="ignored")
    moderation: str | None = Field(default=None, max_length=32, description="ignored")

    @field_validator("n", "seed", "output_compression", mode="before")
    @classmethod
    def _exact(cls, value: Any) -> Any:
        return _a_number(value)


class OpenAIEdit(OpenAIFields):
    """Fields of OpenAI's image edit beside its files, `image` and `mask`."""

    input_fidelity: str | None = Field(default=None, max_length=32, description="ignored")
