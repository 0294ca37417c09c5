"""`elastic show`: everything about one job."""

from itertools import islice
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption
from orchestrator.cli.output import Format, emit

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(
    context: typer.Context,
    job: JobArgument,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Show how a job stands."""
    from orchestrator.cli.job_sheet import job_sheet
    from orchestrator.jobs.bucket import load_state
    from orchestrator.jobs.status import job_status
    from orchestrator.reading.following import events_of

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    state = load_state(where, job)
    now = invocation.now()
    status = job_status(state, now)
    wide = output is Format.WIDE

    def sheet() -> "RenderableType":
        last = max(0, state.record.last_event - (20 if wide else 5))
        recent = list(islice(events_of(where, state.record, after=last), 20))
        return job_sheet(state, status, recent, now, wide=wide)

    emit(output, data=lambda: status.model_dump(mode="json"), names=lambda: [job], table=sheet)
