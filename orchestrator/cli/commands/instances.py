"""`elastic instances`: what costs money now."""

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, suggest, warn
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.reading.paid_instances import PaidInstance


def instances(context: typer.Context, output: OutputOption = Format.TABLE, store: StoreOption = None) -> None:
    """List all that costs money now.

    The instances of every job, and how long each may still live.
    And what belongs to no job: elastic reap ends that.
    """
    from orchestrator.cli.paid_table import paid_table
    from orchestrator.fleets.owned import holdings_of
    from orchestrator.reading.paid_instances import find_orphans, paid_instances

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    holdings = holdings_of(where, invocation.nonce, now=invocation.now, monotonic=invocation.monotonic, log=warn)
    orphans = find_orphans(where, holdings)
    now = invocation.now()
    rows, unreadable = paid_instances(where, orphans.found, now)
    if rows or not output.for_people:
        emit(
            output,
            data=lambda: [row.as_data() for row in rows],
            names=lambda: [row.instance for row in rows],
            table=lambda: paid_table(rows, now, wide=output is Format.WIDE),
        )
    for error in orphans.silent:
        warn(f"{error} So what is there and belongs to no job is not shown.")
    for job, why in sorted({**orphans.unreadable, **unreadable}.items()):
        warn(f"{why} So the instances of {job} are not shown.")
    if output.for_people:
        _sum_up(where.url, rows)


def _sum_up(url: str, rows: "list[PaidInstance]") -> None:
    from orchestrator.reading.paid_instances import ORPHAN, usd_per_hour

    if not rows:
        say(f"No instance runs for {url}.")
        return
    unknown = sum(row.usd_per_hour is None for row in rows)
    but = f", but for {unknown} of which nobody tells the price" if unknown else ""
    say(f"{text.count(len(rows), 'instance')}, {text.usd(usd_per_hour(rows))} an hour in all{but}.")
    orphans = sum(row.state == ORPHAN for row in rows)
    if orphans:
        say(f"{orphans} of them belong{'s' if orphans == 1 else ''} to no job.")
        suggest(("elastic reap", "end what belongs to no job"))
