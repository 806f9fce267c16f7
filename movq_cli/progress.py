"""A progress bar on the terminal's error stream, so that it is in nobody's pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def bar() -> Iterator[Callable[[str, float | None], None]]:
    """Call it with a few words and a share from 0 to 1, None while that is not known. It goes at the end."""
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starts", total=None)

        def show(words: str, share: float | None) -> None:
            progress.update(task, description=words, completed=share or 0.0, total=share and 1.0)

        yield show
