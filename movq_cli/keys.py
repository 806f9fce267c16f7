"""`movq keys`: API keys."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Annotated

import typer

keys = typer.Typer(name="keys", no_args_is_help=True, help="API keys: make a new one.")

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")  # it stands in the paths of its images


@keys.callback()
def main() -> None:
    """API keys. The server has their hashes alone, in MOVQ_API_KEYS."""


@keys.command()
def new(name: Annotated[str, typer.Argument(help="whose it is: a to z, 0 to 9 and -")]) -> None:
    """Make a key. It is shown once, and kept nowhere.

    movq keys new alice
    """
    if not NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r}: 1 to 32 of a to z, 0 to 9 and -, the first no -")
    key = f"movq_{secrets.token_urlsafe(32)}"
    typer.echo(f"The key, for {name} alone; it is not shown again:\n\n  {key}\n")
    typer.echo("Add this to the server's MOVQ_API_KEYS (entries are separated by commas), and restart it:\n")
    typer.echo(f"  {name}:{hashlib.sha256(key.encode()).hexdigest()}")
