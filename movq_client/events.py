"""Events: what a job tells its listeners, and how a stream that was cut goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image
from httpx_sse import ServerSentEvent
from tenacity import RetryCallState, stop_after_attempt

from movq_client.documents import JobDocument
from movq_client.errors import ServerUnavailable
from movq_client.images import Image
from movq_client.retries import Retries

SILENCE_S = 45.0  # the server says something, if only a comment, every 15 s
_TOLD = ("position", "estimated_wait_s", "index", "step", "known")


@dataclass(frozen=True)
class Event:
    """One piece of news of a job.

    `type`: queued (`position`, `estimated_wait_s`), started, step, preview, and done at the end.
    `progress`: 0 to 1, as far as is known. `known`: share of the codes that are settled. `preview`: image
    `index` of the job on its way, RGBA, transparent where its codes are not settled. With `done` comes the
    `job`, and its `images` when it was to make some.
    """

    type: str
    progress: float | None = None
    position: int | None = None
    estimated_wait_s: float | None = None
    index: int | None = None
    step: int | None = None
    known: float | None = None
    preview: PIL.Image.Image | None = None
    job: JobDocument | None = None
    images: list[Image] | None = None


@dataclass(frozen=True)
class Message:
    """An event as it was sent: what it links to is not yet fetched."""

    id: str
    type: str
    data: Mapping[str, Any]

    @property
    def preview_link(self) -> str | None:
        return self.data.get("url") if self.type == "preview" else None

    @property
    def job(self) -> JobDocument | None:
        return JobDocument.model_validate(self.data) if self.type == "done" else None


class StreamCut(ServerUnavailable):
    """A stream of events ended before its job did."""


@dataclass
class Listening:
    """One listener's place in a job's events: `last_id` is the last that was seen; `previews` are fetched.

    Attempts count from the last event on: a job may be listened to for days, and be cut off each hour.
    """

    job_id: str
    previews: bool = True
    last_id: str | None = field(default=None, init=False)
    progress: float | None = field(default=None, init=False)
    fruitless: int = field(default=0, init=False)

    @property
    def path(self) -> str:
        return f"/v1/jobs/{self.job_id}/events"

    def headers(self) -> dict[str, str]:
        return {"Last-Event-ID": self.last_id} if self.last_id else {}

    def message(self, sse: ServerSentEvent) -> Message | None:
        """The message that was sent, if it is a new one.

        It is not when it has no id of its own: comments, and `image`, whose pictures come with `done`.
        """
        if not sse.data or sse.id in ("", self.last_id):
            return None
        return Message(sse.id, sse.event, json.loads(sse.data))

    def event(self, message: Message, preview: PIL.Image.Image | None, images: list[Image] | None) -> Event:
        """What the caller is told; `message` is seen with it. Progress stands until there is news of it."""
        self.last_id, self.fruitless = message.id, 0
        data, job = message.data, message.job
        if message.type == "step":
            self.progress = data["taken"] / data["steps"]
        elif message.type in ("queued", "started"):
            self.progress = 0.0
        elif job is not None and job.status == "succeeded":
            self.progress = 1.0
        told = {} if job else {name: data[name] for name in _TOLD if name in data}
        return Event(message.type, self.progress, preview=preview, job=job, images=images, **told)

    def policy(self, retries: Retries) -> dict[str, Any]:
        """Arguments of tenacity's `Retrying` and `AsyncRetrying` around a connection."""
        return {**retries.policy(), "after": self._count, "stop": stop_after_attempt(retries.attempts)}

    def _count(self, state: RetryCallState) -> None:
        self.fruitless += 1
        state.attempt_number = self.fruitless
