"""`movq`: the command line. One module a command; each imports what it runs only when it runs."""

from __future__ import annotations

import typer

from movq_cli.evaluate import evaluate
from movq_cli.files import decode, encode
from movq_cli.train import train
from movq_cli.up import up
from movq_cli.weights import export_weights, import_weights

app = typer.Typer(
    name="movq",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def main() -> None:
    """A self-hosted image service: MoVQ tokenizer, MaskGIT prior, continuous batching."""


app.command("import")(import_weights)
app.command("export")(export_weights)
app.command("train")(train)
app.command("up")(up)
app.command()(encode)
app.command()(decode)
app.command()(evaluate)
