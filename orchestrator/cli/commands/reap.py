"""`elastic reap`: end what costs money and belongs to no job."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import EXIT_FAILED
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption, flag
from orchestrator.cli.prose import complain, on_terminal, say, warn
from orchestrator.errors import ElasticError, UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.reading.paid_instances import Orphan


def reap(
    context: typer.Context,
    yes: Annotated[bool, flag("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    store: StoreOption = None,
) -> None:
    """End what belongs to no job.

    Instances of this store whose job is over, or gone, or does not know of them.
    elastic instances shows them. Prints the names of those that were ended.
    """
    from orchestrator.fleets.owned import holdings_of
    from orchestrator.reading.paid_instances import find_orphans

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    holdings = holdings_of(where, invocation.nonce, now=invocation.now, monotonic=invocation.monotonic, log=warn)
    orphans = find_orphans(where, holdings)
    if orphans.found and not yes:
        _confirm(orphans.found)
    ended_in_vain = _end(orphans.found)
    for error in (*orphans.silent, *ended_in_vain):
        complain(str(error))
    for job, why in sorted(orphans.unreadable.items()):
        complain(f"{why} So the instances of {job} are left alone.")
    failed = [*orphans.silent, *ended_in_vain, *orphans.unreadable.values()]
    if failed:
        raise typer.Exit(next((e.exit_code for e in failed if e.exit_code != EXIT_FAILED), EXIT_FAILED))
    if not orphans.found:
        say(f"Nothing runs for {where.url} that belongs to no job.")


def _confirm(orphans: "Sequence[Orphan]") -> None:
    """Say what it is and ask; where nobody can be asked, it has to be said beforehand. Raises UsageError, Abort."""
    for orphan in orphans:
        owned = orphan.owned
        say(f"  {owned.instance or owned.id}  {owned.instance_type}  {owned.where}")
    many = text.count(len(orphans), "instance")
    if not on_terminal():
        raise UsageError(f"nobody can be asked here whether to end {many}: say so with --yes")
    typer.confirm(f"End {many}", abort=True, err=True)


def _end(orphans: "Sequence[Orphan]") -> list[ElasticError]:
    """End each, though another cannot be; what went wrong."""
    failed = []
    for orphan in orphans:
        try:
            orphan.holdings.end(orphan.owned.id)
        except ElasticError as error:
            failed.append(error)
            continue
        print(orphan.owned.instance or orphan.owned.id)
    return failed
