"""`elastic wait`: block until a job is over, or in a phase."""

from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.cli.quantities import parse_seconds
from orchestrator.jobs.phases import JobPhase

EXIT_TIMED_OUT = 3


def wait(
    context: typer.Context,
    job: JobArgument,
    phase: Annotated[
        JobPhase | None,
        typer.Option("--for", metavar="PHASE", help=f"{', '.join(JobPhase)}.", show_default="until it is over"),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="DURATION", parser=parse_seconds, help="Give up after, e.g. 10m.", show_default="never"
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Wait until a job is over, or in a phase.

    Exits with 0 if it came to what was waited for, 5 if the job failed, 3 if it was cancelled or the time ran out.
    """
    from orchestrator.cli.following import JobWatch, follow, interval_s
    from orchestrator.cli.following_job import EXIT_CODES
    from orchestrator.cli.job_table import JobTable

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    give_up_at_s = None if timeout is None else invocation.monotonic() + timeout
    watch = JobWatch(where, job, invocation.now, invocation.monotonic)
    timed_out = False
    for look in follow(watch, sleep=invocation.sleep, every_s=interval_s(where), trouble=warn):
        timed_out = give_up_at_s is not None and invocation.monotonic() >= give_up_at_s
        if look.status.phase is phase or timed_out:
            break
    status = look.status
    emit(
        output,
        data=lambda: status.model_dump(mode="json"),
        names=lambda: [status.name],
        table=lambda: JobTable([status], look.at, wide=output is Format.WIDE),
    )
    if status.phase is phase:
        return
    if timed_out and not look.over:
        say(f"{job} is still {status.phase} ({status.reason}); it goes on.")
        raise typer.Exit(EXIT_TIMED_OUT)
    if phase is not None:
        say(f"{job} ended without being {phase}: {status.reason}")
        raise typer.Exit(EXIT_CODES[status.phase] or 1)
    raise typer.Exit(EXIT_CODES[status.phase])
