"""`movq up`: Redis, a worker and the service on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from movq_cli import options


def up(
    models: Annotated[
        list[Path] | None,
        typer.Option(help="the bundle to serve; repeated: several", show_default=str(options.DEMO)),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="of the page and of the API")] = 8000,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in")] = "127.0.0.1",
    data_dir: Annotated[Path, typer.Option(help="queue, images and logs; kept between runs")] = Path("data"),
) -> None:
    """Serve a bundle, or several, on this machine, until Ctrl-C.

    It starts a Redis of its own, a worker for each bundle, the service and its page.

    What was asked before it was stopped is done when it starts again.

    Two at once need two ports and two data folders.

    movq up

    movq up --models models/mine --models models/emoji-64

    movq up --models models/mine --port 8001 --data-dir /tmp/mine
    """
    from deploy.local import CannotStart, Launcher, Options

    try:
        folders = tuple(folder.absolute() for folder in models or [options.DEMO])
        sys.exit(Launcher(Options(host, port, data_dir.resolve(), folders)).run())
    except CannotStart as error:
        typer.echo(f"movq up: {error}", err=True)
        raise typer.Exit(1) from error
