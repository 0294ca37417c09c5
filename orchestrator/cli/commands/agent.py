"""`elastic agent`: the supervisor on an instance; a fleet starts it, not a person."""

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption
from orchestrator.cli.quantities import parse_seconds
from orchestrator.errors import UsageError


def parse_gpus(text: str) -> tuple[int, ...]:
    """GPU numbers of '0,1'; none of ''."""
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise UsageError(f"--gpus: {text!r} is no list of GPU numbers such as 0,1") from None


def agent(
    context: typer.Context,
    instance: Annotated[str, typer.Option("--instance", help="Name of this instance.", show_default=False)],
    job: Annotated[str, typer.Option("--job", help="The job that it was launched for.", show_default=False)],
    workers: Annotated[int, typer.Option("--workers", min=1, help="Workers here.", show_default=False)],
    cores: Annotated[int, typer.Option("--cores", min=1, help="CPU cores for them.", show_default=False)],
    gpus: Annotated[str, typer.Option("--gpus", metavar="N,N", help="GPUs for them; empty: none.", show_default=False)],
    work_dir: Annotated[Path, typer.Option("--work-dir", help="For run directories and logs.", show_default=False)],
    idle_exit: Annotated[
        float,
        typer.Option(
            "--idle-exit",
            metavar="DURATION",
            parser=parse_seconds,
            help="End after so long without work.",
            show_default=False,
        ),
    ],
    allowance: Annotated[
        float | None,
        typer.Option(
            "--allowance",
            metavar="DURATION",
            parser=parse_seconds,
            help="The instance may live so long; without: as long as it is needed.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Supervise the workers of an instance; fleets start this."""
    from orchestrator.agent.main import end_with, run_agent
    from orchestrator.store.open import open_store

    invocation = Invocation.of(context)
    url = store or invocation.store_url
    where, prompt = open_store(url, invocation.environ), open_store(url, invocation.environ, hasty=True)
    numbers = parse_gpus(gpus)
    end_with(
        lambda: run_agent(
            where,
            instance=instance,
            job=job,
            workers=workers,
            cores=cores,
            gpus=numbers,
            work_dir=work_dir,
            idle_exit_s=idle_exit,
            allowance_s=allowance,
            prompt_store=prompt,
        )
    )
