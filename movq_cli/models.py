"""`movq models`: which models there are, and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.server import connected


def models(
    name: Annotated[str | None, typer.Argument(help="list the classes of this one")] = None,
    folder: Annotated[Path, typer.Option(help="without --server: where the bundles are")] = Path("models"),
    server: options.Server = None,
    api_key: options.ApiKey = None,
) -> None:
    """List the models of a server, or of a folder of bundles; or the classes of one.

    movq models

    movq models emoji-64
    """
    from rich.console import Console
    from rich.table import Table

    with one_sentence("models"):
        rows = _here(folder, name) if server is None else _there(server, api_key, name)
    table = Table(*(["class"] if name else ["model", "pixels", "classes", "tasks"]), box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _here(folder: Path, name: str | None) -> list[tuple[str, ...]]:
    from movq_core.errors import InvalidRequest
    from movq_core.manifest import read_manifest

    found = [read_manifest(config.parent) for config in sorted(folder.glob("*/config.json"))]
    if name is None:
        return [_row(one.name, one.movq.image_size, len(one.labels), one.tasks) for one in found]
    for one in found:
        if one.name == name:
            return [(label,) for label in one.labels]
    there = ", ".join(one.name for one in found) or "none"
    raise InvalidRequest(f"There is no model {name!r} in {folder}; there are: {there}.")


def _there(server: str, api_key: str | None, name: str | None) -> list[tuple[str, ...]]:
    with connected(server, api_key) as client:
        if name is not None:
            return [(one.name,) for one in client.classes(name)]
        return [_row(one.name, one.image_size, one.num_classes, one.tasks) for one in client.models()]


def _row(name: str, image_size: int, classes: int, tasks: Sequence[str]) -> tuple[str, ...]:
    return name, str(image_size), str(classes), ", ".join(tasks)
