"""How a command ends when something of the caller's is wrong: one sentence and status 1, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_sentence(command: str) -> Iterator[None]:
    """Around what a command does: a MovqError or an OSError becomes `movq COMMAND: sentence`."""
    try:
        yield
    except _said_on_purpose() as error:
        typer.echo(f"movq {command}: {error}", err=True)
        raise typer.Exit(1) from error


def _said_on_purpose() -> tuple[type[Exception], ...]:
    """The client's errors are none unless the command has imported it."""
    from movq_core.errors import MovqError

    client = sys.modules.get("movq_client")
    return (MovqError, OSError, *([client.MovqError] if client else []))
