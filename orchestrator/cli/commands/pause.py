"""`elastic pause` and `elastic resume`."""

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, NoDaemonOption, StoreOption


def pause(
    context: typer.Context, job: JobArgument, no_daemon: NoDaemonOption = False, store: StoreOption = None
) -> None:
    """Pause a job: checkpoint, then let its instances go."""
    from orchestrator.cli.asking import check_pause
    from orchestrator.cli.sending import Asked, send

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    asked = Asked.of(where, job)
    check_pause(asked.record, asked.wanted)
    send(
        where, asked, "pause", invocation, no_daemon=no_daemon, then=(f"elastic wait {job} --for paused", "until it is")
    )


def resume(
    context: typer.Context, job: JobArgument, no_daemon: NoDaemonOption = False, store: StoreOption = None
) -> None:
    """Let a paused job go on from its checkpoint."""
    from orchestrator.cli.asking import check_resume
    from orchestrator.cli.sending import Asked, send

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    asked = Asked.of(where, job)
    check_resume(asked.record, asked.wanted)
    send(where, asked, "resume", invocation, no_daemon=no_daemon, then=(f"elastic follow {job}", "watch it"))
