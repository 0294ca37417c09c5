"""`elastic ps`: the jobs of a store."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.jobs.record import JobRecord
    from orchestrator.reading.listing import Listing


def ps(
    context: typer.Context,
    show_all: Annotated[bool, flag("--all", "-a", help="Also jobs that ended more than a day ago.")] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """List jobs.

    Those that are not over, and those that ended within a day.
    """
    from orchestrator.cli.job_table import job_table
    from orchestrator.reading.listing import RECENT, list_jobs

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    now = invocation.now()

    def wanted(record: "JobRecord") -> bool:
        return show_all or record.ended_at is None or now - record.ended_at < RECENT

    listing = list_jobs(where, now, wanted)
    for problem in listing.left_out:
        warn(str(problem))
    if listing.shown or not output.for_people:
        emit(
            output,
            data=lambda: [status.model_dump(mode="json") for status in listing.shown],
            names=lambda: [status.name for status in listing.shown],
            table=lambda: job_table(listing.shown, now, wide=output is Format.WIDE),
        )
    if output.for_people:
        _say_what_is_not_shown(where.url, listing)


def _say_what_is_not_shown(url: str, listing: "Listing") -> None:
    if listing.hidden:
        say(f"{text.count(listing.hidden, 'older job')} not shown: elastic ps --all")
    elif not listing.shown:
        say(f"No jobs in {url}. Submit one with: elastic submit FILE (elastic init writes one)")
