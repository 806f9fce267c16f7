"""The events of a job as they are sent: blobs by their links, at the end the images and the job itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import zip_longest
from typing import Any

from sse_starlette import JSONServerSentEvent, ServerSentEvent

from movq_core.protocol import EventType
from service.answers import document_of
from service.context import Context
from service.documents import JobDocument, blob_link
from service.events import JobEvent

IMAGE = "image"


async def event_stream(
    context: Context, job_id: str, owner: str | None, after: str | None
) -> AsyncIterator[ServerSentEvent]:
    """What happens to the job after the event `after`; ends with `done`.

    The `image` events have no id: who lost the connection between them and `done` has all of them again.
    """
    async with aclosing(context.events.watch(job_id, after)) as events:
        with context.metrics.listeners.track_inprogress():
            async for event in events:
                for sent in await _sent(context, job_id, owner, event):
                    yield sent


async def _sent(context: Context, job_id: str, owner: str | None, event: JobEvent) -> list[ServerSentEvent]:
    """What is sent for one entry of the job's stream: of `queued` and `done`, the job tells more than it."""
    if event.type not in (EventType.QUEUED, EventType.DONE):
        return [JSONServerSentEvent(_data(event), event=event.type, id=event.id)]
    job = document_of(context, await context.jobs.get(job_id, owner))
    if event.type is EventType.QUEUED:
        place = job.model_dump(include={"position", "estimated_wait_s"})
        return [JSONServerSentEvent(place, event=event.type, id=event.id)]
    images = [JSONServerSentEvent(image, event=IMAGE) for image in _images(job)]
    return [*images, JSONServerSentEvent(job.model_dump(mode="json"), event=event.type, id=event.id)]


async def has_ended(context: Context, job_id: str, after: str) -> bool:
    """Whether nothing comes after the event `after` of a job that is over."""
    async with aclosing(context.events.watch(job_id, after)) as events:
        async for _ in events:
            return False
    return True


def _data(event: JobEvent) -> dict[str, Any]:
    if event.type is not EventType.PREVIEW:
        return event.data
    shown = {name: value for name, value in event.data.items() if name != "image_key"}
    return shown | {"url": blob_link(event.data["image_key"])}


def _images(job: JobDocument) -> list[dict[str, Any]]:
    """One of each image; a decoding has no seeds."""
    return [
        {"index": index, "seed": seed, "url": url}
        for index, (seed, url) in enumerate(zip_longest(job.seeds, job.images))
    ]
