"""Visitors: every kind of job, whoever watches it, and whoever changes his mind."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import numpy as np
from PIL import Image

STEPS = 12
SIDE_PX = 96  # of an upload: more than one tile
REPEATED_UPLOADS = 20  # an image in three is one that was sent before
TIMEOUT_S = 120.0

Call = Callable[[], Awaitable[httpx.Response]]


class Visitors:
    """Each comes for one thing, drawn by weight; `outcomes` counts what became of whom."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)  # noqa: S311 - a mix of visitors, not a secret
        self.outcomes: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Call]] = {
            "generate": (8, self._generate),
            "generate and watch": (2, self._watch),
            "generate and cancel": (1, self._cancel),
            "leave while waiting": (1, self._leave),
            "reconstruct": (3, self._reconstruct),
            "encode": (2, self._encode),
            "edit": (2, self._edit),
            "look around": (3, self._look),
            "ask for nonsense": (1, self._nonsense),
        }

    async def come(self) -> None:
        """One of them; nothing that goes wrong stops the others, and all of it is counted."""
        weights = [weight for weight, _ in self._kinds.values()]
        (kind,) = self._random.choices(list(self._kinds), weights)
        try:
            answer = await self._kinds[kind][1]()
            outcome = str(answer.status_code)
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        self.outcomes[f"{kind}: {outcome}"] += 1

    async def stay(self, a_second: float, seconds: float) -> None:
        """They come for so long, by a Poisson process; returns when the last has gone."""
        loop = asyncio.get_running_loop()
        next_s, end_s = loop.time(), loop.time() + seconds
        async with asyncio.TaskGroup() as group:
            while (next_s := next_s + self._random.expovariate(a_second)) < end_s:
                await asyncio.sleep(next_s - loop.time())
                group.create_task(self.come())

    # -- what they come for -----------------------------------------------------------------------

    async def _generate(self) -> httpx.Response:
        return await self._client.post("/generate", json=self._wish(), headers={"accept": "image/png"})

    async def _watch(self) -> httpx.Response:
        """Previews are looked at, too."""
        answer = await self._client.post("/v1/generations", params={"watched": True}, json=self._wish())
        if answer.status_code != httpx.codes.ACCEPTED:
            return answer
        async with self._client.stream("GET", answer.json()["links"]["events"]) as stream:
            async for line in stream.aiter_lines():
                if '"/v1/previews/' in line:
                    path = line.partition('"/v1/previews/')[2].partition('"')[0]
                    await self._client.get(f"/v1/previews/{path}")
            return stream

    async def _cancel(self) -> httpx.Response:
        answer = await self._client.post("/v1/generations", json=self._wish(num_images=4))
        if answer.status_code != httpx.codes.ACCEPTED:
            return answer
        await asyncio.sleep(self._random.random())
        return await self._client.delete(answer.json()["links"]["self"])

    async def _leave(self) -> httpx.Response:
        try:
            return await self._client.post("/generate", json=self._wish(), timeout=0.2)
        except httpx.ReadTimeout:
            return httpx.Response(499)

    async def _reconstruct(self) -> httpx.Response:
        """A third of the images have been sent before; some of them, after they were removed here."""
        return await self._client.post(
            "/reconstruct", files={"image": self._picture()}, headers={"accept": "image/webp"}
        )

    async def _encode(self) -> httpx.Response:
        """And back: the codes make an image."""
        answer = await self._client.post("/encode", files={"image": self._picture()})
        if answer.status_code != httpx.codes.OK:
            return answer
        return await self._client.post("/decode", json=answer.json())

    async def _edit(self) -> httpx.Response:
        form = {"box": "8,8,40,40", "steps": str(STEPS), "seed": str(self._random.randrange(2**32))}
        return await self._client.post("/edit", data=form, files={"image": self._picture()})

    async def _look(self) -> httpx.Response:
        answer = await self._client.get("/v1/jobs", params={"limit": 5})
        for job in answer.json()["jobs"]:
            for image in job["images"]:
                answer = await self._client.get(image)
        return answer

    async def _nonsense(self) -> httpx.Response:
        return await self._client.post("/reconstruct", files={"image": b"not an image"})

    def _wish(self, **said: object) -> dict[str, object]:
        return {"class_id": self._random.randrange(10), "steps": STEPS, **said}

    def _picture(self) -> bytes:
        seed = self._random.choice([self._random.randrange(REPEATED_UPLOADS), self._random.randrange(2**32)])
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((SIDE_PX, SIDE_PX)).save(buffer, "PNG")
        return buffer.getvalue()
