"""`elastic cancel`: end jobs for good."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobsArgument, NoDaemonOption, StoreOption, flag
from orchestrator.cli.prose import on_terminal
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.cli.sending import Asked
    from orchestrator.store.protocol import Store


def cancel(
    context: typer.Context,
    jobs: JobsArgument,
    yes: Annotated[bool, flag("--yes", "-y", help="Do not ask; without a terminal nobody is asked anyway.")] = False,
    no_daemon: NoDaemonOption = False,
    store: StoreOption = None,
) -> None:
    """End jobs at once and for good.

    Their last checkpoints can still be fetched.
    """
    from orchestrator.cli.sending import send_cancels

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    asked = _all_or_none(where, list(dict.fromkeys(jobs)))
    if not yes and on_terminal():
        names = ", ".join(each.record.name for each in asked)
        typer.confirm(f"Cancel {names}? A cancelled job cannot be resumed", abort=True, err=True)
    send_cancels(where, asked, invocation, no_daemon=no_daemon)


def _all_or_none(store: "Store", jobs: list[str]) -> list["Asked"]:
    """The jobs to cancel: a mistyped name must not be noticed after half of them are. Raises UsageError."""
    from orchestrator.cli.asking import check_cancel
    from orchestrator.cli.sending import AT_ONCE, Asked

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = list(pool.map(lambda job: Asked.of(store, job), jobs))
        for each in asked:
            check_cancel(each.record)
    except UsageError as error:
        if len(jobs) == 1:
            raise
        raise UsageError(f"{error} (so nothing was asked of any of the {len(jobs)} jobs)") from error
    return asked
