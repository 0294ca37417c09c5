"""`elastic ps`: the jobs of a store."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import text
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say

if TYPE_CHECKING:
    from orchestrator.jobs.status import JobStatus

RECENT = timedelta(days=1)
"""A job that ended longer ago is shown only with --all."""


def ps(
    context: typer.Context,
    show_all: Annotated[bool, flag("--all", "-a", help="Also jobs that ended more than a day ago.")] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """List jobs.

    Those that are not over, and those that ended within a day.
    """
    from orchestrator.cli.job_table import JobTable
    from orchestrator.cli.listing import all_statuses

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    now = invocation.now()
    everything = all_statuses(where, now)
    shown = [status for status in everything if show_all or _recent(status, invocation)]
    if shown or not output.for_people:
        emit(
            output,
            data=lambda: [status.model_dump(mode="json") for status in shown],
            names=lambda: [status.name for status in shown],
            table=lambda: JobTable(shown, now, wide=output is Format.WIDE),
        )
    if output.for_people:
        _say_what_is_not_shown(where.url, len(everything), len(everything) - len(shown))


def _recent(status: "JobStatus", invocation: Invocation) -> bool:
    return status.ended_at is None or invocation.now() - status.ended_at < RECENT


def _say_what_is_not_shown(url: str, there_are: int, hidden: int) -> None:
    if there_are == 0:
        say(f"No jobs in {url}. Submit one with: elastic submit FILE (elastic init writes one)")
    elif hidden:
        say(f"{text.count(hidden, 'older job')} not shown: elastic ps --all")
