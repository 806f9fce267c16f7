"""A server behind a command: the client, and its job with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import typer

from movq_cli.progress import bar
from movq_core.errors import InvalidRequest

if TYPE_CHECKING:
    from movq_client import Client, Event, Job

T = TypeVar("T")


@contextmanager
def connected(server: str | None, api_key: str | None) -> Iterator[Client]:
    """A client of `server`; without one of http://127.0.0.1:8000, where `movq up` is."""
    from movq_client import Client, Retries

    # Who sits at a terminal would rather know soon that nobody is there.
    with Client(server, api_key, retries=Retries(attempts=4)) as client:
        yield client


def followed(job: Job[T]) -> T:
    """What `job` makes, with a bar until then; Ctrl-C cancels it."""
    try:
        with bar() as shown:
            for event in job.events(previews=False):
                shown(words_of(event), event.progress)
        return job.wait()
    except KeyboardInterrupt:
        job.cancel()
        typer.echo(f"The job {job.id} was cancelled.", err=True)
        raise typer.Exit(130) from None


def words_of(event: Event) -> str:
    """What the bar says beside itself."""
    if event.type != "queued" or event.position is None:
        return "at work"
    wait = "" if event.estimated_wait_s is None else f", about {event.estimated_wait_s:.0f} s"
    return f"number {event.position} in the queue{wait}"


def needed(server: str | None) -> str:
    """The server of a command that does nothing without one; raises InvalidRequest."""
    if server is None:
        raise InvalidRequest("This needs a server: --server URL, or MOVQ_URL. `movq up` starts one.")
    return server
