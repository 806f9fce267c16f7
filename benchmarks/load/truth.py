"""Is a refusal's Retry-After true? Asked of a full queue, with nobody else around.

The queue is filled, a request of so many images is refused, and from then on it is asked again ten times a
second until it is taken. HTTP's Retry-After is in whole seconds, so what was really to be waited is rounded
up to them before the two are compared.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import httpx

ASK_EVERY_S = 0.1
FILLING_IMAGES = 4  # of each job that fills the queue: as many as a request may ask for


@dataclass(frozen=True)
class Told:
    """What one refusal said, and what was."""

    images: int
    told_s: int
    true_s: float

    @property
    def factor(self) -> float:
        """Told by true, in whole seconds: 1 is right, 2 is twice as long as needed."""
        return self.told_s / max(1, math.ceil(self.true_s))


class FullQueue:
    """A server's queue, filled by us with images of so many steps."""

    def __init__(self, client: httpx.AsyncClient, steps: int) -> None:
        self._client = client
        self._steps = steps

    async def told(self, images: int) -> Told:
        """One refusal of a request for so many images."""
        filling = await self._fill()
        asked_s = time.perf_counter()
        answer = await self._ask(images)
        while answer.status_code == httpx.codes.ACCEPTED:  # a job has ended just now
            filling.append(answer.json()["links"]["self"])
            asked_s = time.perf_counter()
            answer = await self._ask(images)
        told_s = int(answer.headers["retry-after"])
        while answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            await asyncio.sleep(ASK_EVERY_S)
            answer = await self._ask(images)
        true_s = time.perf_counter() - asked_s
        await self._clear([*filling, answer.json()["links"]["self"]])
        return Told(images, told_s, true_s)

    async def _clear(self, links: list[str]) -> None:
        """Cancel those that wait, and let those that run end: work that is thrown away is in no pace."""
        while links:
            jobs = [(await self._client.get(link)).json() for link in links]
            waiting = [job["links"]["self"] for job in jobs if job["status"] == "queued"]
            running = [job["links"]["self"] for job in jobs if job["status"] == "running"]
            await asyncio.gather(*map(self._client.delete, waiting))
            await asyncio.sleep(ASK_EVERY_S)
            links = waiting + running

    async def _fill(self) -> list[str]:
        """Links of the jobs: large ones first, then what still fits."""
        jobs: list[str] = []
        for images in (FILLING_IMAGES, 1):
            while (answer := await self._ask(images)).status_code == httpx.codes.ACCEPTED:
                jobs.append(answer.json()["links"]["self"])
        return jobs

    async def _ask(self, images: int) -> httpx.Response:
        body = {"class_id": 0, "steps": self._steps, "num_images": images}
        answer = await self._client.post("/v1/generations", json=body)
        if answer.status_code not in (httpx.codes.ACCEPTED, httpx.codes.TOO_MANY_REQUESTS):
            answer.raise_for_status()
        return answer


async def refusals(url: str, sizes: list[int], steps: int, idle_s: float = 0.0) -> list[Told]:
    """One of each size, in turn; before the first, nobody asks for anything for `idle_s`."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.sleep(idle_s)
        queue = FullQueue(client, steps)
        return [await queue.told(images) for images in sizes]
