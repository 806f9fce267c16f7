"""AsyncClient: `Client` with `await`, for many jobs at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from movq_client import calls, verbs
from movq_client.calls import Box, EditOptions, JobCall, PictureOptions, SamplingOptions, TokenizerOptions
from movq_client.connection import AsyncConnection
from movq_client.documents import ClassDocument, Codes, JobDocument, ModelDocument
from movq_client.events import Event, Listening
from movq_client.images import Image, Picture, Reconstruction
from movq_client.job_view import JobView
from movq_client.retries import Retries

T = TypeVar("T")


class AsyncClient:
    """A movq server, from a program with an event loop. Arguments and results are `Client`'s.

    async with AsyncClient() as client:
        faces, hearts = await asyncio.gather(client.generate("smiley"), client.generate("heart"))
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._connection = AsyncConnection(url, api_key, retries or Retries(), transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._connection.close()

    # -- at once: ask, wait, and get the thing itself -------------------------------------------

    async def generate(
        self, class_name: str | None = None, **options: Unpack[SamplingOptions]
    ) -> list[Image]:
        """New images of a class, or of none: `Client.generate`."""
        return await self._perform(calls.generation(class_name, options))

    async def reconstruct(self, picture: Picture, **options: Unpack[PictureOptions]) -> Reconstruction:
        """A picture through the codes and back: `Client.reconstruct`."""
        return await self._perform(calls.reconstruction(picture, options))

    async def encode(self, picture: Picture, **options: Unpack[TokenizerOptions]) -> Codes:
        """The codes of a picture; `decode` makes a picture of them again."""
        return await self._perform(calls.encoding(picture, options))

    async def decode(self, codes: Codes, **options: Unpack[PictureOptions]) -> Image:
        """The picture of codes."""
        return await self._perform(calls.decoding(codes, options))

    async def edit(
        self,
        picture: Picture,
        class_name: str | None = None,
        *,
        mask: Picture | None = None,
        box: Box | Sequence[Box] | None = None,
        expand: Box | int | None = None,
        **options: Unpack[EditOptions],
    ) -> list[Image]:
        """A picture with a part of it made anew: `Client.edit`."""
        return await self._perform(
            calls.edit(picture, class_name, options, mask=mask, box=box, expand=expand)
        )

    async def generate_iter(
        self, class_name: str | None = None, **options: Unpack[SamplingOptions]
    ) -> AsyncGenerator[Event, None]:
        """`generate`, told step by step: `Client.generate_iter`, with `async for`."""
        job = await self.start_generation(class_name, watched=True, **options)
        async with aclosing(job.events()) as events:
            async for event in events:
                yield event
                if event.job:
                    verbs.raise_for(event.job)

    # -- as jobs: ask, and come back later ------------------------------------------------------

    async def start_generation(
        self, class_name: str | None = None, *, watched: bool = False, **options: Unpack[SamplingOptions]
    ) -> AsyncJob[list[Image]]:
        """Start to `generate`. `watched`: you are about to read `events()` and want the first step, too."""
        return await self._start(calls.generation(class_name, options), watched)

    async def start_reconstruction(
        self, picture: Picture, **options: Unpack[PictureOptions]
    ) -> AsyncJob[Reconstruction]:
        """Start to `reconstruct`."""
        return await self._start(calls.reconstruction(picture, options))

    async def start_encoding(self, picture: Picture, **options: Unpack[TokenizerOptions]) -> AsyncJob[Codes]:
        """Start to `encode`."""
        return await self._start(calls.encoding(picture, options))

    async def start_decoding(self, codes: Codes, **options: Unpack[PictureOptions]) -> AsyncJob[Image]:
        """Start to `decode`."""
        return await self._start(calls.decoding(codes, options))

    async def start_edit(
        self,
        picture: Picture,
        class_name: str | None = None,
        *,
        mask: Picture | None = None,
        box: Box | Sequence[Box] | None = None,
        expand: Box | int | None = None,
        watched: bool = False,
        **options: Unpack[EditOptions],
    ) -> AsyncJob[list[Image]]:
        """Start to `edit`; `watched` as in `start_generation`."""
        return await self._start(
            calls.edit(picture, class_name, options, mask=mask, box=box, expand=expand), watched
        )

    async def job(self, job_id: str) -> AsyncJob[Any]:
        """The job of that id; raises NotFound."""
        return AsyncJob(self._connection, self.timeout_s, await self._connection.run(verbs.look(job_id)))

    async def jobs(self, limit: int = 20, status: str | None = None) -> list[AsyncJob[Any]]:
        """The latest jobs, newest first: yours, where the server has keys."""
        return [
            AsyncJob(self._connection, self.timeout_s, document)
            for document in await self._connection.run(verbs.list_jobs(limit, status))
        ]

    # -- what there is --------------------------------------------------------------------------

    async def models(self) -> list[ModelDocument]:
        """The models that the server has; the first is taken where none is named."""
        return await self._connection.run(verbs.list_models())

    async def classes(self, model: str | None = None) -> list[ClassDocument]:
        """The classes of a model; of the first one when none is named."""
        return await self._connection.run(verbs.list_classes(model))

    async def _perform(self, call: JobCall[T]) -> T:
        return await self._connection.run(verbs.perform(call, self.timeout_s))

    async def _start(self, call: JobCall[T], watched: bool = False) -> AsyncJob[T]:
        return AsyncJob(
            self._connection,
            self.timeout_s,
            await self._connection.run(verbs.start(call.watched() if watched else call)),
        )


class AsyncJob(JobView, Generic[T]):
    """`Job` with `await`."""

    def __init__(self, connection: AsyncConnection, timeout_s: float, document: JobDocument) -> None:
        super().__init__(document)
        self._connection = connection
        self._timeout_s = timeout_s

    async def refresh(self) -> JobDocument:
        """Ask the server how it stands."""
        self.document = await self._connection.run(verbs.look(self.id))
        return self.document

    async def wait(self, timeout_s: float | None = None) -> T:
        """What it makes, once it is over; raises JobFailed, JobCancelled, or JobTimeout after `timeout_s`."""
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        self.document = await self._connection.run(verbs.await_end(self.document, patience_s))
        result: T = await self._connection.run(verbs.result(self.document))
        return result

    async def cancel(self) -> JobDocument:
        """Stop it, and it alone. One that is over stays as it is."""
        self.document = await self._connection.run(verbs.cancel(self.id))
        return self.document

    async def events(self, previews: bool = True) -> AsyncGenerator[Event, None]:
        """Its news as it comes, `done` last; a connection that was cut goes on where it was.

        Previews are made only while somebody listens; without `previews` they are not fetched.
        """
        async with aclosing(self._connection.events(Listening(self.id, previews))) as events:
            async for event in events:
                self.document = event.job or self.document
                yield event
