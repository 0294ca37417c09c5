"""`elastic agent`: the supervisor on an instance; a fleet starts it, not a person."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption
from orchestrator.cli.quantities import parse_seconds
from orchestrator.errors import UsageError


class Cloud(StrEnum):
    """Whose machine it is."""

    NONE = "none"
    EC2 = "ec2"


def parse_gpus(text: str, workers: int, environ: Mapping[str, str]) -> tuple[int, ...]:
    """GPU numbers of '0,1'; none of ''; of 'all' one for each worker, of those that the machine has."""
    if text == "all":
        from orchestrator.agent.gpus import gpus_for

        return gpus_for(workers, environ)
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise UsageError(f"--gpus: {text!r} is neither all nor a list of GPU numbers such as 0,1") from None


def agent(
    context: typer.Context,
    instance: Annotated[str, typer.Option("--instance", help="Name of this instance.", show_default=False)],
    job: Annotated[str, typer.Option("--job", help="The job that it was launched for.", show_default=False)],
    workers: Annotated[int, typer.Option("--workers", min=1, help="Workers here.", show_default=False)],
    cores: Annotated[int, typer.Option("--cores", min=1, help="CPU cores for them.", show_default=False)],
    gpus: Annotated[
        str,
        typer.Option("--gpus", metavar="N,N", help="GPUs for them; empty: none; all: one each.", show_default=False),
    ],
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
    age: Annotated[
        float,
        typer.Option(
            "--age",
            metavar="DURATION",
            parser=parse_seconds,
            help="The instance has existed for so long already.",
            show_default=False,
        ),
    ] = 0.0,
    cloud: Annotated[
        Cloud,
        typer.Option("--cloud", help="ec2: ask the metadata service who this is, and heed its interruption notices."),
    ] = Cloud.NONE,
    store: StoreOption = None,
) -> None:
    """Supervise the workers of an instance; fleets start this."""
    from orchestrator.agent.imds import InstanceMetadata
    from orchestrator.agent.main import end_with, run_agent
    from orchestrator.store.open import open_store

    invocation = Invocation.of(context)
    url = store or invocation.store_url
    where, prompt = open_store(url, invocation.environ), open_store(url, invocation.environ, hasty=True)
    numbers = parse_gpus(gpus, workers, invocation.environ)
    metadata = None
    if cloud is Cloud.EC2:
        metadata = InstanceMetadata(invocation.environ, invocation.monotonic, invocation.now)
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
            metadata=metadata,
            age_s=age,
        )
    )
