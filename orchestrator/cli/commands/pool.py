"""`elastic pool`: the machines of one's own that have joined a store."""

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, suggest, warn
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.fleets.pool.listing import Pool


def pool(context: typer.Context, output: OutputOption = Format.TABLE, store: StoreOption = None) -> None:
    """List the machines of the pool.

    Machines of your own join with elastic agent --join.
    Jobs with resources.fleet: pool run on them, for nothing.
    One that has been gone for a day is not shown.
    """
    from orchestrator.cli.pool_table import pool_table
    from orchestrator.fleets.pool.listing import look_at_pool

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    now = invocation.now()
    look = look_at_pool(where, now)
    machines = look.machines
    if machines or not output.for_people:
        emit(
            output,
            data=look.as_data,
            names=lambda: [machine.report.machine for machine in machines],
            table=lambda: pool_table(machines, now, wide=output is Format.WIDE),
        )
    if output.for_people:
        _sum_up(where.url, look)


def _sum_up(url: str, look: "Pool") -> None:
    from orchestrator.fleets.pool.listing import in_all

    machines = look.machines
    for name, why in look.unreadable.items():
        warn(f"{name} is left out, and takes no orders: {why}")
    if not machines and look.unreadable:
        return
    if not machines:
        say(f"No machine has joined {url}.")
        suggest((f"elastic agent --join {url}", "on a machine of your own: give it to the jobs of this store"))
        return
    say(f"{text.count(len(machines), 'machine')}; of those that take orders {in_all(machines)} are free.")
