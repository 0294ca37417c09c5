"""`elastic logs`: what the workers of a job printed."""

from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, StoreOption, flag


def logs(
    context: typer.Context,
    job: JobArgument,
    follow: Annotated[
        bool, flag("--follow", "-f", help="Go on until the job is over, through all generations.")
    ] = False,
    generation: Annotated[
        int | None,
        typer.Option("--generation", "-g", min=1, help="Which life of the workers.", show_default="the latest"),
    ] = None,
    rank: Annotated[int, typer.Option("--rank", "-r", min=0, help="Which worker.")] = 0,
    launcher: Annotated[bool, flag("--launcher", help="What torchrun on the first instance printed instead.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only so many last lines.", show_default="all")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Print the log of one worker; with -f as it comes."""
    from orchestrator.cli.printing_logs import LogPrinter, follow_logs
    from orchestrator.jobs import layout
    from orchestrator.jobs.bucket import load_record

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    load_record(where, job)  # refuses a job that there is not
    stream = layout.launcher_stream(0) if launcher else layout.rank_stream(rank)
    printer = LogPrinter(where, job, stream, generation, tail)
    if follow:
        follow_logs(printer, invocation)
    else:
        printer.print_all()
