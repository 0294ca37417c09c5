"""`elastic follow`: watch a job that was submitted before."""

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption
from orchestrator.cli.output import Format


def follow(
    context: typer.Context,
    job: JobArgument,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Watch a job until it is over.

    Ctrl-C detaches and leaves it running. Exits with 0 if it succeeded, 5 if it failed, 3 if it was cancelled.
    """
    from orchestrator.cli.following_job import follow_job

    invocation = Invocation.of(context)
    raise typer.Exit(follow_job(invocation, invocation.open_store(store), job, output))
