"""`movq jobs`: what a server was asked, how it stands, and an end to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from movq_cli import options
from movq_cli.outcome import one_sentence
from movq_cli.server import connected

if TYPE_CHECKING:
    from movq_client import JobDocument

jobs = typer.Typer(name="jobs", no_args_is_help=True, help="A server's jobs: list, show, cancel.")

JobId = Annotated[str, typer.Argument(help="as `movq jobs list` shows it")]


@jobs.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="how many, the newest first")] = 20,
    status: Annotated[
        str | None, typer.Option(help="only queued, running, succeeded, failed or cancelled ones")
    ] = None,
    server: options.Server = None,
    api_key: options.ApiKey = None,
) -> None:
    """List the latest jobs, newest first.

    movq jobs list --status running
    """
    from rich.console import Console
    from rich.table import Column, Table

    job_id = Column("job", no_wrap=True, min_width=36)  # whole, however narrow the terminal: one copies it
    table = Table(job_id, "kind", "model", "status", Column("made", no_wrap=True), box=None)
    with one_sentence("jobs list"), connected(server, api_key) as client:
        for job in client.jobs(limit, status):
            document = job.document
            made = f"{document.created_at.astimezone():%m-%d %H:%M}"
            table.add_row(job.id, document.kind, document.model, _standing(document), made)
    Console().print(table)


@jobs.command()
def show(job_id: JobId, server: options.Server = None, api_key: options.ApiKey = None) -> None:
    """Show a job as JSON, with all that is known of it."""
    with one_sentence("jobs show"), connected(server, api_key) as client:
        typer.echo(client.job(job_id).document.model_dump_json(indent=2))


@jobs.command()
def cancel(job_id: JobId, server: options.Server = None, api_key: options.ApiKey = None) -> None:
    """Stop a job, and it alone; one that is over stays as it is."""
    with one_sentence("jobs cancel"), connected(server, api_key) as client:
        typer.echo(f"{job_id}: {_standing(client.job(job_id).cancel())}")


def _standing(document: JobDocument) -> str:
    if document.status == "queued" and document.position:
        return f"queued, number {document.position}"
    if document.status == "running" and document.progress is not None:
        return f"running, {document.progress:.0%}"
    return document.status
