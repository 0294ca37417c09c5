"""`elastic daemon`: the controller, in the foreground."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption, flag
from orchestrator.cli.quantities import parse_seconds
from orchestrator.log_line import write_line
from orchestrator.reading import text


def daemon(
    context: typer.Context,
    idle_exit: Annotated[
        float | None,
        typer.Option(
            "--idle-exit",
            metavar="DURATION",
            parser=parse_seconds,
            help="End after so long without jobs.",
            show_default="never",
        ),
    ] = None,
    background: Annotated[bool, flag("--background", help="Log to stdout.", hidden=True)] = False,
    store: StoreOption = None,
) -> None:
    """Run a controller, which starts, sizes and repairs jobs.

    One on a store acts, any other stands by. Ctrl-C ends it; jobs that run go on.
    """
    from orchestrator.controller.daemon import run_daemon

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    stream = sys.stdout if background else sys.stderr  # the starter of a background daemon has made stdout its log file

    def log(line: str) -> None:
        write_line(f"{text.utc_time(invocation.now())}  {line}", stream)

    raise typer.Exit(run_daemon(where, label=invocation.asker(), idle_exit_s=idle_exit, log=log))
