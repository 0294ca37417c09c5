"""`elastic submit`: put a job into the store, and see to it that a controller carries it out."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import NoDaemonOption, OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, suggest
from orchestrator.errors import UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.spec.models import JobSpec
    from orchestrator.store.protocol import Store


def submit(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A job.yaml, or - for standard input.", show_default=False)
    ],
    follow: Annotated[bool, flag("--follow", "-f", help="Watch it until it is over.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Instead of the file's name.", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Instead of the file's value, e.g. training.seed=3.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, flag("--dry-run", help="Print the job with all defaults; submit nothing.")] = False,
    no_daemon: NoDaemonOption = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Submit a job."""
    from orchestrator.cli.following_job import follow_job
    from orchestrator.cli.starting_daemon import start_daemon_if_none
    from orchestrator.controller.background import require_daemon_startable
    from orchestrator.jobs.bucket import submit_job
    from orchestrator.jobs.cloud_account import require_account
    from orchestrator.store.probe import require_conditional_writes

    invocation = Invocation.of(context)
    spec = read_job(file, changes or [], job_name=name)
    _require_folders(spec)
    if dry_run:
        print_spec(spec, Format.YAML if output.for_people else output)
        return
    where = invocation.open_store(store)
    require_conditional_writes(where, invocation.nonce)
    require_account(where, spec.resources)
    if spec.resources.fleet == "local":
        require_engine(spec, invocation)
    if not no_daemon:
        require_daemon_startable(where)
    submit_job(where, spec, invocation.now(), invocation.nonce)
    say(f"Submitted {spec.name}: {_described(spec)}.")
    if not no_daemon:
        start_daemon_if_none(where, invocation)
    if follow:
        raise typer.Exit(follow_job(invocation, where, spec.name, output))
    _print_submitted(where, spec.name, invocation, output)
    say("Next:")
    controller = [("elastic daemon", "run a controller here: without one, nothing starts")] if no_daemon else []
    suggest(*controller, (f"elastic follow {spec.name}", "watch it"), (f"elastic show {spec.name}", "how it stands"))


def read_job(file: Path, overrides: list[str], job_name: str | None = None) -> "JobSpec":
    """The job that a file or standard input describes, under another name if one is given. Raises SpecError.

    Paths in it are from the file's directory on, for an agent works in another.
    """
    from orchestrator.cli.own_program import with_program_of_here
    from orchestrator.spec.load import load_job
    from orchestrator.spec.places import with_absolute_paths

    if str(file) == "-":
        spec, base = load_job(_standard_input(), overrides, name="standard input", job_name=job_name), Path.cwd()
    else:
        spec, base = load_job(file, overrides, job_name=job_name), file.parent
    if spec.training is not None:
        return spec.model_copy(update={"training": with_absolute_paths(spec.training, base)})
    return with_program_of_here(spec, base.absolute(), os.environ)


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except OSError as error:  # a file that is open for writing only, say
        raise UsageError(f"standard input cannot be read: {error.strerror}") from error


def _require_folders(spec: "JobSpec") -> None:
    """Raises UsageError for a local folder that is not there: better now than when the job has started."""
    from orchestrator.cli.own_program import directory_misfit
    from orchestrator.spec.places import FOLDERS, is_url

    if spec.resources.fleet == "pool":
        return  # its machines have directories of their own
    folders = spec.training.folders if spec.training is not None else None
    for name in FOLDERS if folders is not None else ():
        place = getattr(folders, name)
        if place is not None and not is_url(place) and (what := directory_misfit(place)):
            raise UsageError(f"training.folders.{name}: {place}: {what}; relative paths begin at the job file")


def require_engine(spec: "JobSpec", invocation: Invocation) -> None:
    """Raises EngineError when workers are to run in containers, and this machine has no Docker engine."""
    if spec.resources.image is None:
        return
    from orchestrator.fleets.engine import connect

    connect(invocation.environ).close()


def print_spec(spec: "JobSpec", output: Format) -> None:
    """A spec as it can be submitted again."""
    emit(
        output,
        data=lambda: spec.model_dump(mode="json", exclude_none=output is Format.YAML),
        names=lambda: [spec.name],
        table=lambda: spec.name,
    )


def _described(spec: "JobSpec") -> str:
    from orchestrator.spec.own_program import described_command

    training = spec.training
    sizes = sorted({spec.resources.ladder[rung].world_size for rung in spec.allowed_rungs})
    workers = f"{sizes[0]} to {sizes[-1]} workers" if len(sizes) > 1 else text.count(sizes[0], "worker")
    if training is None:
        return f"{described_command(spec.command or ())}, {workers}"
    length = text.count(training.epochs, "epoch") if training.epochs else text.count(training.steps or 0, "step")
    labels = f"{training.labels:,} labels" if isinstance(training.labels, int) else f"{training.labels} labelled"
    images = training.folders.labelled if training.folders else training.dataset
    return f"{training.method} with {training.model.name} on {images}, {labels}, {length}, {workers}"


def _print_submitted(store: "Store", job: str, invocation: Invocation, output: Format) -> None:
    """The data of a submit: the job's name, or its status."""
    from orchestrator.jobs.bucket import load_state
    from orchestrator.jobs.status import job_status

    emit(
        Format.NAME if output.for_people else output,
        data=lambda: job_status(load_state(store, job), invocation.now()).model_dump(mode="json"),
        names=lambda: [job],
        table=lambda: job,
    )
