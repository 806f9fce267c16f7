"""How a command ends when something of the caller's is wrong: one sentence and status 1, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_sentence(command: str) -> Iterator[None]:
    """Around what a command does: a MovqError or an OSError becomes `movq COMMAND: sentence`."""
    from movq_core.errors import MovqError

    try:
        yield
    except (MovqError, OSError) as error:
        typer.echo(f"movq {command}: {error}", err=True)
        raise typer.Exit(1) from error
