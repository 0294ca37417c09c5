"""`elastic wait`: block until a job is over, or in a phase."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.cli.quantities import parse_seconds
from orchestrator.jobs.phases import JobPhase

if TYPE_CHECKING:
    from orchestrator.jobs.status import JobStatus

EXIT_TIMED_OUT = 3
EXIT_OTHER_END = 1
"""It succeeded, where something else was waited for."""


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
    raise typer.Exit(_outcome(status, phase, timed_out=timed_out))


def _outcome(status: "JobStatus", phase: JobPhase | None, *, timed_out: bool) -> int:
    """The exit code, and a word where it is not what was waited for."""
    from orchestrator.cli.following_job import EXIT_CODES

    if status.phase is phase:
        return 0
    if timed_out and not status.phase.over:
        say(f"{status.name} is still {status.phase} ({status.reason}); it goes on.")
        return EXIT_TIMED_OUT
    if phase is not None:
        say(f"{status.name} ended without being {phase}: {status.reason}")
        return EXIT_CODES[status.phase] or EXIT_OTHER_END
    return EXIT_CODES[status.phase]
