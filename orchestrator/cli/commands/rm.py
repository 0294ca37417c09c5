"""`elastic rm`: remove jobs that are over, with all that they have left."""

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobsArgument, StoreOption, flag
from orchestrator.cli.prose import on_terminal, say, warn
from orchestrator.errors import UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.store.protocol import Store


def rm(
    context: typer.Context,
    jobs: JobsArgument,
    yes: Annotated[bool, flag("--yes", "-y", help="Do not ask; needed where nobody can be asked.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove jobs that are over: checkpoints, logs, events, all.

    What was fetched stays. A removal that was broken off is completed by the same command.
    """
    from orchestrator.jobs.removal import remove_job

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    names = list(dict.fromkeys(jobs))
    _check_all_or_none(where, names)
    if not yes:
        _confirm(where, names)
    for name in names:
        removed = remove_job(where, name, invocation.now(), invocation.nonce)
        say(f"Removed {name} ({text.count(removed, 'object')}).")


def _confirm(store: "Store", jobs: list[str]) -> None:
    """Ask; where nobody can be asked, it has to be said beforehand. Raises UsageError, Abort."""
    from orchestrator.jobs import layout

    listed = ", ".join(jobs)
    if not on_terminal():
        raise UsageError(f"nobody can be asked here whether to remove {listed} for good: say so with --yes")
    for job in jobs:
        if next(store.list(layout.pins_prefix(job)), None) is not None:
            warn(f"somebody may be fetching {job} at this moment")
    typer.confirm(
        f"Remove {listed} from {store.url}, checkpoints and all? They are gone for good", abort=True, err=True
    )


def _check_all_or_none(store: "Store", jobs: list[str]) -> None:
    """A mistyped name must not be noticed after half of the jobs are gone. Raises UsageError."""
    from orchestrator.jobs.removal import check_removable

    try:
        for job in jobs:
            check_removable(store, job)
    except UsageError as error:
        if len(jobs) == 1:
            raise
        raise UsageError(f"{error} (so none of the {len(jobs)} jobs was removed)") from error
