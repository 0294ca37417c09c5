"""`elastic resize`: a person's own choice of size, or back to autoscaling."""

from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, NoDaemonOption, StoreOption, flag
from orchestrator.errors import UsageError


def resize(
    context: typer.Context,
    job: JobArgument,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, help="Workers in all, as a rung of the ladder has.", show_default=False),
    ] = None,
    automatic: Annotated[bool, flag("--auto", help="Back to sizing by utilisation.")] = False,
    no_daemon: NoDaemonOption = False,
    store: StoreOption = None,
) -> None:
    """Hold a job at a size, or let it size itself again.

    It goes on from a checkpoint, and its result is the same at any size.
    """
    from orchestrator.cli.asking import check_resize
    from orchestrator.cli.sending import Asked, send
    from orchestrator.jobs.bucket import load_spec

    if (workers is None) is not automatic:
        raise UsageError("say one of --workers N, to hold the job at a size, or --auto, to let it size itself")
    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    asked = Asked.of(where, job)
    check_resize(asked.record, load_spec(where, job), asked.wanted, workers)
    send(
        where,
        asked,
        "resize",
        invocation,
        no_daemon=no_daemon,
        then=(f"elastic follow {job}", "watch it"),
        workers=workers,
    )
