"""`elastic wait`: block until a job is over, or in a phase."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import EXIT_FAILED, EXIT_TIMED_OUT
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.cli.quantities import parse_seconds
from orchestrator.errors import ElasticError
from orchestrator.jobs.phases import JobPhase

if TYPE_CHECKING:
    from orchestrator.jobs.status import JobStatus
    from orchestrator.reading.following import Look

EXIT_OTHER_END = EXIT_FAILED
"""It succeeded, where something else was waited for."""
SILENT_S = 3.0
"""A status older than this is no longer said to be so: a store that answers is asked every second."""


class TimedOut(ElasticError):
    """Nothing is known at the end of the time."""

    exit_code = EXIT_TIMED_OUT


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
    from orchestrator.cli.in_time import in_time
    from orchestrator.cli.job_table import job_table
    from orchestrator.reading.following import JobWatch, follow, interval_s

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    watch = JobWatch(where, job, invocation.now, invocation.monotonic)

    def looks(sleep: Callable[[float], object]) -> Iterator["Look"]:
        return follow(watch, sleep=sleep, every_s=interval_s(where), trouble=warn)

    last: Look | None = None
    for look in looks(invocation.sleep) if timeout is None else in_time(looks, timeout, invocation.monotonic):
        last = look
        if look.status.phase is phase:
            break
    if last is None:
        raise TimedOut(f"{where.url} has not answered in time, so it is not known how {job} stands: see elastic doctor")
    status, at = last.status, last.at
    emit(
        output,
        data=lambda: status.model_dump(mode="json"),
        names=lambda: [status.name],
        table=lambda: job_table([status], at, wide=output is Format.WIDE),
    )
    silent_s = (invocation.now() - at).total_seconds()
    raise typer.Exit(_outcome(status, phase, silent_s))


def _outcome(status: "JobStatus", phase: JobPhase | None, silent_s: float) -> int:
    """The exit code, and a word where it is not what was waited for; `silent_s`: how old the status is."""
    from orchestrator.cli.following_job import EXIT_CODES

    if status.phase is phase:
        return 0
    if not status.phase.over:
        if silent_s > SILENT_S:
            say(f"{status.name} was {status.phase} when the store last answered, {silent_s:.0f} s ago.")
        else:
            say(f"{status.name} is still {status.phase} ({status.reason}); it goes on.")
        return EXIT_TIMED_OUT
    if phase is not None:
        say(f"{status.name} ended without being {phase}: {status.reason}")
        return EXIT_CODES[status.phase] or EXIT_OTHER_END
    return EXIT_CODES[status.phase]
