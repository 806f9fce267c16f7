"""Calls: requests to the server, built and not yet sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypedDict, TypeVar

from movq_client.documents import Codes
from movq_client.images import Image, Picture, Reconstruction, bytes_of

T = TypeVar("T")
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels
MAX_PREFERRED_S = 50  # the server waits for 60 at most


class JobOptions(TypedDict, total=False):
    """What every job may be told.

    `model`: a name of `client.models()`; the server's first one if not said. `priority`: high, normal, low.
    `deadline_s`: seconds after which nobody wants it any more. `webhook_url`: https, told at the end.
    """

    model: str | None
    priority: Literal["high", "normal", "low"]
    deadline_s: float | None
    webhook_url: str | None


class TokenizerOptions(JobOptions, total=False):
    """And what goes through the tokenizer: `tiling`: `tiles` in flat memory, or `whole` in one pass."""

    tiling: Literal["tiles", "whole"]


class PictureOptions(TokenizerOptions, total=False):
    """And what comes back as a picture: `format`: png, webp, jpeg."""

    format: Literal["png", "webp", "jpeg"]


class SamplingOptions(JobOptions, total=False):
    """And what is made by the prior; what is left out is what suits the model.

    `class_id`: instead of `class_name`. `num_images`: of one request; image i has a seed of its own, derived
    from `seed`, which is drawn if not said. `steps`: passes of the prior, more of them take longer.
    `temperature`: how daring the draw of a code is. `choice_temperature`: how much chance decides which codes
    settle first. `guidance_scale`: 1 is none; more follows the class more closely. `guidance_schedule`:
    constant, linear, cosine. `mask_schedule`: cosine, arccos, linear. `order`: confidence, halton.
    `top_k`: only the likeliest codes may be drawn. `format`: png, webp, jpeg.
    """

    class_id: int | None
    num_images: int
    steps: int
    seed: int | None
    temperature: float
    choice_temperature: float
    guidance_scale: float
    guidance_schedule: Literal["constant", "linear", "cosine"]
    mask_schedule: Literal["cosine", "arccos", "linear"]
    order: Literal["confidence", "halton"]
    top_k: int | None
    format: Literal["png", "webp", "jpeg"]


class EditOptions(SamplingOptions, total=False):
    """And what is made anew. `strength`: the share of its codes. `feather_px`: its blended edge."""

    strength: float
    feather_px: int


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class JobCall(Call, Generic[T]):
    """One that starts a job, which makes `T`. Sent twice it starts one: it has its own Idempotency-Key."""

    def watched(self) -> JobCall[T]:
        """Somebody is about to listen to the job's events: its first step is to be among them."""
        return replace(self, params={**self.params, "watched": "true"})

    def waiting(self, seconds: float) -> JobCall[T]:
        """The server may answer when the job is over, or after so long."""
        preference = f"wait={int(min(seconds, MAX_PREFERRED_S))}"
        return replace(self, headers={**self.headers, "Prefer": preference})


def _start(path: str, **parts: Any) -> JobCall[Any]:
    return JobCall("POST", path, headers={"Idempotency-Key": uuid.uuid4().hex}, **parts)


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def generation(class_name: str | None, options: SamplingOptions) -> JobCall[list[Image]]:
    return _start("/v1/generations", json=_said({"class_name": class_name, **options}))


def reconstruction(picture: Picture, options: PictureOptions) -> JobCall[Reconstruction]:
    return _start("/v1/reconstructions", params=_said(options), files={"image": bytes_of(picture)})


def encoding(picture: Picture, options: TokenizerOptions) -> JobCall[Codes]:
    return _start("/v1/encodings", params=_said(options), files={"image": bytes_of(picture)})


def decoding(codes: Codes, options: PictureOptions) -> JobCall[Image]:
    return _start("/v1/decodings", params=_said(options), json=codes.model_dump())


def edit(
    picture: Picture,
    class_name: str | None,
    options: EditOptions,
    *,
    mask: Picture | None,
    box: Box | Sequence[Box] | None,
    expand: Box | int | None,
) -> JobCall[list[Image]]:
    files = {"image": bytes_of(picture)}
    if mask is not None:
        files["mask"] = bytes_of(mask)
    margins = (expand,) * 4 if isinstance(expand, int) else expand
    where = {"box": [_numbers(item) for item in _boxes(box)], "expand": margins and _numbers(margins)}
    return _start("/v1/edits", form=_said({**where, "class_name": class_name, **options}), files=files)


def _boxes(box: Box | Sequence[Box] | None) -> Sequence[Box]:
    """One box, several, or none."""
    if not box:
        return ()
    return box if isinstance(box[0], Sequence) else [box]  # type: ignore[return-value,list-item]


def _numbers(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)


def job(job_id: str) -> Call:
    return Call("GET", f"/v1/jobs/{job_id}")


def cancellation(job_id: str) -> Call:
    return Call("DELETE", f"/v1/jobs/{job_id}")


def jobs(limit: int, status: str | None) -> Call:
    return Call("GET", "/v1/jobs", params=_said({"limit": limit, "status": status}))


def models() -> Call:
    return Call("GET", "/v1/models")


def classes(model: str) -> Call:
    return Call("GET", f"/v1/models/{model}/classes")


def blob(link: str) -> Call:
    return Call("GET", link)
