"""`elastic agent`: a machine of one's own for the pool; or, started by a fleet, the supervisor on an instance."""

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import StoreOption
from orchestrator.cli.quantities import parse_seconds
from orchestrator.errors import UsageError
from orchestrator.log_line import write_line


class Cloud(StrEnum):
    """Whose machine it is."""

    NONE = "none"
    EC2 = "ec2"


def parse_gpus(text: str, workers: int, environ: Mapping[str, str]) -> tuple[int, ...]:
    """GPU numbers of '0,1'; none of ''; of 'all' one for each worker, of those that the machine has."""
    if text == "all":
        from orchestrator.agent.gpus import gpus_for

        return gpus_for(workers, environ)
    from orchestrator.fleets.local import gpu_numbers

    return gpu_numbers(text)


def agent(
    context: typer.Context,
    join: Annotated[
        str | None,
        typer.Option(
            "--join", metavar="URL", help="Join the pool of this store: run what is ordered here.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="With --join: what the machine is called.", show_default="its host name"),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="With --join: jobs can ask for it.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="IP",
            help="Where other instances reach this one.",
            show_default="with --join, that by which it reaches the store",
        ),
    ] = None,
    cores: Annotated[
        int | None, typer.Option("--cores", min=1, help="CPU cores for workers.", show_default="with --join, all")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            metavar="N,N",
            help="GPUs for workers; empty: none; all: all or, for an instance, one each.",
            show_default="with --join, all",
        ),
    ] = None,
    instance: Annotated[
        str | None, typer.Option("--instance", help="Name of this instance.", show_default=False)
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", help="The job that it was launched for.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Workers here.", show_default=False)] = None,
    work_dir: Annotated[
        Path | None, typer.Option("--work-dir", help="For run directories and logs.", show_default=False)
    ] = None,
    idle_exit: Annotated[
        float | None,
        typer.Option(
            "--idle-exit",
            metavar="DURATION",
            parser=parse_seconds,
            help="End after so long without work.",
            show_default=False,
        ),
    ] = None,
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
    image: Annotated[
        str | None,
        typer.Option("--image", help="Run workers in containers of this image.", show_default="as processes"),
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
    """Give a machine of one's own to jobs, with --join.

    It runs what is ordered for jobs with resources.fleet: pool, as long as you like.
    Ctrl-C lets what runs commit first. elastic pool shows who has joined.
    The other options are for the supervisor of one instance, which fleets start.
    """
    invocation = Invocation.of(context)
    one = {"instance": instance, "job": job, "workers": workers, "work-dir": work_dir, "idle-exit": idle_exit}
    given = [f"--{option}" for option, value in one.items() if value is not None]
    if join is not None:
        others = {"store": store, "image": image, "allowance": allowance, "age": age or None}
        given += [f"--{option}" for option, value in others.items() if value is not None]
        given += ["--cloud"] if cloud is not Cloud.NONE else []
        if given:
            raise UsageError(f"--join gives the machine to any job of the store it names: leave out {', '.join(given)}")
        _join(invocation, join, name=name, cores=cores, gpus=gpus, labels=labels or [], address=address)
        return
    if not given:
        raise UsageError("name the store whose jobs this machine is to run: elastic agent --join URL")
    if name is not None or labels:
        raise UsageError("--name and --label go with --join")
    if instance is None or job is None or workers is None or work_dir is None or idle_exit is None or cores is None:
        needed = [f"--{option}" for option, value in {**one, "cores": cores}.items() if value is None]
        raise UsageError(f"an instance's supervisor needs {', '.join(needed)} too; a fleet starts it, with all of them")
    _supervise(
        store or invocation.store_url,
        invocation,
        instance=instance,
        job=job,
        workers=workers,
        cores=cores,
        gpus=parse_gpus(gpus or "", workers, invocation.environ),
        work_dir=work_dir,
        idle_exit_s=idle_exit,
        allowance_s=allowance,
        address=address,
        image=image,
        cloud=cloud,
        age_s=age,
    )


def _join(
    invocation: Invocation,
    url: str,
    *,
    name: str | None,
    cores: int | None,
    gpus: str | None,
    labels: list[str],
    address: str | None,
) -> NoReturn:
    """Be the host of this machine in a store's pool."""
    from orchestrator.fleets.pool.equipment import equipment_of
    from orchestrator.fleets.pool.joining import run_host
    from orchestrator.reading import text

    store = invocation.open_store(url)
    equipment = equipment_of(
        name=name,
        cores=cores,
        gpus="all" if gpus is None else gpus,
        labels=labels,
        address=address,
        store_url=store.url,
        environ=invocation.environ,
    )

    def log(line: str) -> None:
        write_line(f"{text.utc_time(invocation.now())}  {line}", sys.stderr)

    raise typer.Exit(run_host(store, equipment, invocation.environ, label=invocation.asker(), log=log))


def _supervise(
    url: str | None,
    invocation: Invocation,
    *,
    instance: str,
    job: str,
    workers: int,
    cores: int,
    gpus: tuple[int, ...],
    work_dir: Path,
    idle_exit_s: float,
    allowance_s: float | None,
    address: str | None,
    image: str | None,
    cloud: Cloud,
    age_s: float,
) -> NoReturn:
    """Be the supervisor of one instance."""
    from orchestrator.agent.imds import InstanceMetadata
    from orchestrator.agent.main import end_with, run_agent
    from orchestrator.jobs.instances import LOOPBACK
    from orchestrator.store.open import open_store

    where, prompt = open_store(url, invocation.environ), open_store(url, invocation.environ, hasty=True)
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
            gpus=gpus,
            work_dir=work_dir,
            idle_exit_s=idle_exit_s,
            allowance_s=allowance_s,
            prompt_store=prompt,
            address=address or LOOPBACK,
            image=image,
            metadata=metadata,
            age_s=age_s,
        )
    )
