"""`movq`: the command line. One module a command; each imports what it runs only when it runs."""

from __future__ import annotations

import typer

from movq_cli.edit import edit
from movq_cli.evaluate import evaluate
from movq_cli.files import decode, encode
from movq_cli.generate import generate
from movq_cli.jobs import jobs
from movq_cli.keys import keys
from movq_cli.models import models
from movq_cli.reconstruct import reconstruct
from movq_cli.train import train
from movq_cli.up import up
from movq_cli.weights import export_weights, import_weights

app = typer.Typer(
    name="movq",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)

_SERVE, _MAKE, _MODELS = "Serve", "Images (on a server with --server or MOVQ_URL, else here)", "Models"


@app.callback()
def main() -> None:
    """A self-hosted image service: MoVQ tokenizer, MaskGIT prior, continuous batching.

    movq up      starts it on this machine

    movq generate --class smiley -o smiley.png
    """


app.command("up", rich_help_panel=_SERVE)(up)
app.add_typer(jobs, rich_help_panel=_SERVE)
app.add_typer(keys, rich_help_panel=_SERVE)
for command in (generate, reconstruct, edit, encode, decode):
    app.command(rich_help_panel=_MAKE)(command)
app.command("models", rich_help_panel=_MODELS)(models)
app.command("train", rich_help_panel=_MODELS)(train)
app.command("evaluate", rich_help_panel=_MODELS)(evaluate)
app.command("import", rich_help_panel=_MODELS)(import_weights)
app.command("export", rich_help_panel=_MODELS)(export_weights)
