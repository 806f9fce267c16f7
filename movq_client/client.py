"""Client: a movq server from Python, one call at a time; `AsyncClient` is the same with `await`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import httpx

from movq_client import calls, verbs
from movq_client.calls import Box, EditOptions, JobCall, PictureOptions, SamplingOptions, TokenizerOptions
from movq_client.connection import Connection
from movq_client.documents import ClassDocument, Codes, JobDocument, ModelDocument
from movq_client.events import Event, Listening
from movq_client.images import Image, Picture, Reconstruction
from movq_client.job_view import JobView
from movq_client.retries import Retries

T = TypeVar("T")


class Client:
    """A movq server.

        client = Client("http://127.0.0.1:8000")
        for image in client.generate("smiley", num_images=4, seed=7):
            image.save(f"{image.seed}.png")

    `url` and `api_key` are MOVQ_URL and MOVQ_API_KEY of the environment where they are not said. `timeout_s`:
    how long a verb waits for its job. `retries`: see there. `transport`: httpx's, for proxies and tests.

    Threads may share a client. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._connection = Connection(url, api_key, retries or Retries(), transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._connection.close()

    # -- at once: ask, wait, and get the thing itself -------------------------------------------

    def generate(self, class_name: str | None = None, **options: Unpack[SamplingOptions]) -> list[Image]:
        """New images of a class, or of none. `options`: see `SamplingOptions`.

        client.generate("smiley", steps=12, num_images=4, seed=7)
        """
        return self._perform(calls.generation(class_name, options))

    def reconstruct(self, picture: Picture, **options: Unpack[PictureOptions]) -> Reconstruction:
        """A picture through the codes and back, at its own size, with figures of what was lost.

        `picture`: a path, the bytes of a file, a Pillow image, or an array.
        """
        return self._perform(calls.reconstruction(picture, options))

    def encode(self, picture: Picture, **options: Unpack[TokenizerOptions]) -> Codes:
        """The codes of a picture; `decode` makes a picture of them again."""
        return self._perform(calls.encoding(picture, options))

    def decode(self, codes: Codes, **options: Unpack[PictureOptions]) -> Image:
        """The picture of codes."""
        return self._perform(calls.decoding(codes, options))

    def edit(
        self,
        picture: Picture,
        class_name: str | None = None,
        *,
        mask: Picture | None = None,
        box: Box | Sequence[Box] | None = None,
        expand: Box | int | None = None,
        **options: Unpack[EditOptions],
    ) -> list[Image]:
        """A picture with a part of it made anew; all else stays as it is, pixel for pixel.

        `mask`: a picture of the same size, transparent or, where it has no alpha, white where it is to be
        made anew. `box`: instead, or besides: (left, top, right, bottom) in pixels, or several. `expand`:
        pixels to add around it, on all sides or (left, top, right, bottom). `strength`: the share of the
        codes there that is made anew; without mask, box and expand it makes a variation of the whole.

        client.edit("face.png", "smiley", box=(8, 8, 40, 40), seed=1)
        """
        return self._perform(calls.edit(picture, class_name, options, mask=mask, box=box, expand=expand))

    def generate_iter(
        self, class_name: str | None = None, **options: Unpack[SamplingOptions]
    ) -> Generator[Event, None, None]:
        """`generate`, told step by step; the last event has the `images`. Raises JobFailed, JobCancelled.

        for event in client.generate_iter("smiley"):
            if event.preview:
                display(event.preview)
        """
        for event in self.start_generation(class_name, watched=True, **options).events():
            yield event
            if event.job:
                verbs.raise_for(event.job)

    # -- as jobs: ask, and come back later ------------------------------------------------------

    def start_generation(
        self, class_name: str | None = None, *, watched: bool = False, **options: Unpack[SamplingOptions]
    ) -> Job[list[Image]]:
        """Start to `generate`. `watched`: you are about to read `events()` and want the first step, too."""
        return self._start(calls.generation(class_name, options), watched)

    def start_reconstruction(
        self, picture: Picture, **options: Unpack[PictureOptions]
    ) -> Job[Reconstruction]:
        """Start to `reconstruct`."""
        return self._start(calls.reconstruction(picture, options))

    def start_encoding(self, picture: Picture, **options: Unpack[TokenizerOptions]) -> Job[Codes]:
        """Start to `encode`."""
        return self._start(calls.encoding(picture, options))

    def start_decoding(self, codes: Codes, **options: Unpack[PictureOptions]) -> Job[Image]:
        """Start to `decode`."""
        return self._start(calls.decoding(codes, options))

    def start_edit(
        self,
        picture: Picture,
        class_name: str | None = None,
        *,
        mask: Picture | None = None,
        box: Box | Sequence[Box] | None = None,
        expand: Box | int | None = None,
        watched: bool = False,
        **options: Unpack[EditOptions],
    ) -> Job[list[Image]]:
        """Start to `edit`; `watched` as in `start_generation`."""
        return self._start(
            calls.edit(picture, class_name, options, mask=mask, box=box, expand=expand), watched
        )

    def job(self, job_id: str) -> Job[Any]:
        """The job of that id; raises NotFound."""
        return Job(self._connection, self.timeout_s, self._connection.run(verbs.look(job_id)))

    def jobs(self, limit: int = 20, status: str | None = None) -> list[Job[Any]]:
        """The latest jobs, newest first: yours, where the server has keys."""
        return [
            Job(self._connection, self.timeout_s, document)
            for document in self._connection.run(verbs.list_jobs(limit, status))
        ]

    # -- what there is --------------------------------------------------------------------------

    def models(self) -> list[ModelDocument]:
        """The models that the server has; the first is taken where none is named."""
        return self._connection.run(verbs.list_models())

    def classes(self, model: str | None = None) -> list[ClassDocument]:
        """The classes of a model; of the first one when none is named."""
        return self._connection.run(verbs.list_classes(model))

    def _perform(self, call: JobCall[T]) -> T:
        return self._connection.run(verbs.perform(call, self.timeout_s))

    def _start(self, call: JobCall[T], watched: bool = False) -> Job[T]:
        return Job(
            self._connection,
            self.timeout_s,
            self._connection.run(verbs.start(call.watched() if watched else call)),
        )


class Job(JobView, Generic[T]):
    """A job on the server; `T` is what it makes. `document`: how it stood when the server was last asked."""

    def __init__(self, connection: Connection, timeout_s: float, document: JobDocument) -> None:
        super().__init__(document)
        self._connection = connection
        self._timeout_s = timeout_s

    def refresh(self) -> JobDocument:
        """Ask the server how it stands."""
        self.document = self._connection.run(verbs.look(self.id))
        return self.document

    def wait(self, timeout_s: float | None = None) -> T:
        """What it makes, once it is over; raises JobFailed, JobCancelled, or JobTimeout after `timeout_s`."""
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        self.document = self._connection.run(verbs.await_end(self.document, patience_s))
        result: T = self._connection.run(verbs.result(self.document))
        return result

    def cancel(self) -> JobDocument:
        """Stop it, and it alone. One that is over stays as it is."""
        self.document = self._connection.run(verbs.cancel(self.id))
        return self.document

    def events(self, previews: bool = True) -> Generator[Event, None, None]:
        """Its news as it comes, `done` last; a connection that was cut goes on where it was.

        Previews are made only while somebody listens; without `previews` they are not fetched.
        """
        for event in self._connection.events(Listening(self.id, previews)):
            self.document = event.job or self.document
            yield event
