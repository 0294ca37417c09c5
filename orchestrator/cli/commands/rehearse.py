"""`elastic rehearse`: a job's whole way through the cloud, on this machine, before anything is paid for."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from orchestrator.cli.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import complain, say
from orchestrator.cli.quantities import parse_seconds
from orchestrator.errors import UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.jobs.phases import JobPhase
    from orchestrator.rehearsal.refusals import Shortages
    from orchestrator.rehearsal.rehearsal import Rehearsal
    from orchestrator.spec.models import JobSpec

ENDS_WITHIN_S = 180.0
"""After the end of the job: how long its instances may take to end too."""
_ZONE = r"[a-z]{2}(-[a-z]+)+-\d+[a-z]"
_TYPE = r"[a-z][a-z0-9-]*\.[a-z0-9-]+"
_CAPACITY = re.compile(rf"{_ZONE}|{_TYPE}(@{_ZONE})?")


def _duration(name: str, meaning: str, *, show_default: str | bool = False) -> Any:
    """An option that takes a duration."""
    return typer.Option(name, metavar="DURATION", parser=parse_seconds, help=meaning, show_default=show_default)


def rehearse(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A job.yaml with fleet: ec2, or - for standard input.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Instead of the file's value.", show_default=False),
    ] = None,
    interrupt: Annotated[
        list[float] | None,
        _duration("--interrupt", "Interrupt a spot instance so long after the submit, with notice; may be repeated."),
    ] = None,
    interrupt_without_notice: Annotated[
        list[float] | None,
        _duration("--interrupt-without-notice", "The same without a word."),
    ] = None,
    notice: Annotated[
        float,
        _duration("--notice", "From a notice to the interruption.", show_default="2m"),
    ] = 120.0,
    kill_controller: Annotated[
        list[float] | None,
        _duration("--kill-controller", "Kill the controller so long after the submit; it comes back."),
    ] = None,
    no_capacity: Annotated[
        list[str] | None,
        typer.Option(
            "--no-capacity",
            metavar="ZONE|TYPE|TYPE@ZONE",
            help="There are no instances of this; may be repeated.",
            show_default=False,
        ),
    ] = None,
    no_quota: Annotated[
        list[str] | None,
        typer.Option(
            "--no-quota", metavar="spot|on_demand", help="The account may start none of these.", show_default=False
        ),
    ] = None,
    throttle: Annotated[bool, flag("--throttle", help="Half of the requests to EC2 are one too many.")] = False,
    zones: Annotated[
        str | None,
        typer.Option(
            "--zones", metavar="ZONE,...", help="Where the account has subnets.", show_default="all of the region"
        ),
    ] = None,
    boot: Annotated[
        float,
        _duration("--boot", "How long an instance takes to boot.", show_default="5s"),
    ] = 5.0,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep", metavar="DIRECTORY", help="Leave the instances' disks and logs there.", show_default=False
        ),
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Rehearse a job in a cloud on this machine: no account, no cost.

    EC2, IAM, CloudFormation and S3 run on loopback; what is launched there really runs here, its workers on the CPU:
    as processes or, with resources.image, in containers of this machine's Docker engine. Everything is set up by
    elastic bootstrap, goes wrong as asked, and ends with the command. Prints the bill. Exits as elastic follow does, or
    with 1 if an instance outlived the job.
    """
    from orchestrator.cli.commands.submit import read_job, require_engine
    from orchestrator.cli.following_job import EXIT_CODES
    from orchestrator.rehearsal.disturbances import Disturbance, Kind
    from orchestrator.rehearsal.rehearsal import Conditions, rehearsing

    invocation = Invocation.of(context)
    spec = read_job(file, changes or [])
    _require_rehearsable(spec, interrupt or [])
    require_engine(spec, invocation)
    times = {
        Kind.INTERRUPTION: interrupt,
        Kind.INTERRUPTION_WITHOUT_NOTICE: interrupt_without_notice,
        Kind.CONTROLLER_KILLED: kill_controller,
    }
    conditions = Conditions(
        zones=_listed(zones),
        boot_s=boot,
        notice_s=notice,
        shortages=_shortages(no_capacity or [], no_quota or [], throttle),
        disturbances=tuple(Disturbance(kind, at_s) for kind, all_at_s in times.items() for at_s in all_at_s or []),
    )
    if spec.resources.region is not None:
        conditions = replace(conditions, region=spec.resources.region)
    try:
        with (
            _directory(keep) as place,
            rehearsing(conditions, place, invocation.environ, say, engine=_engine(spec, invocation)) as rehearsal,
        ):
            phase, living = _live_through(invocation, rehearsal, spec, output)
    except KeyboardInterrupt:
        say("The rehearsal is ended, with all that belonged to it.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if keep is not None:
        say(f"Disks and logs of the instances: {keep}")
    if living:
        complain(f"{text.count(living, 'instance')} outlived the job by {text.duration(ENDS_WITHIN_S)}")
        raise typer.Exit(EXIT_FAILED)
    raise typer.Exit(EXIT_CODES[phase])


def _live_through(
    invocation: Invocation, rehearsal: "Rehearsal", spec: "JobSpec", output: Format
) -> "tuple[JobPhase, int]":
    """Submit the job, watch it to its end, print what became of it; gives its end, and how many instances live on."""
    from orchestrator.cli.bill_table import bill_data, bill_table
    from orchestrator.cli.following_job import print_end, watch_job
    from orchestrator.jobs.bucket import submit_job
    from orchestrator.store.open import open_store

    with _as_environment(rehearsal.environ):
        store = open_store(None, rehearsal.environ)
        submit_job(store, spec, invocation.now(), invocation.nonce)
        rehearsal.begin()
        say(f"Submitted {spec.name} on loopback: nothing of this reaches AWS")
        last = watch_job(replace(invocation, sleep=rehearsal.health.sleep), store, spec.name)
        living = rehearsal.wait_until_ended(ENDS_WITHIN_S)
        if output.for_people:
            print_end(store, last, output)
    bill = rehearsal.bill()
    emit(
        output,
        data=lambda: {"job": last.status.model_dump(mode="json"), "bill": bill_data(bill)},
        names=lambda: [spec.name],
        table=lambda: bill_table(bill),
    )
    for after_s, what in rehearsal.done:
        say(f"after {text.duration(after_s)}: {what}")
    return last.status.phase, living


def _require_rehearsable(spec: "JobSpec", interrupt: list[float]) -> None:
    """Raises UsageError for a job that a rehearsal can say nothing of."""
    resources = spec.resources
    if resources.fleet != "ec2":
        raise UsageError("a rehearsal is of the way through EC2: set resources.fleet to ec2; or run it: elastic submit")
    if interrupt and resources.market == "on_demand":
        raise UsageError(
            "--interrupt: EC2 announces interruptions of spot instances only, and the job's market is on_demand: use "
            "--interrupt-without-notice"
        )


def _engine(spec: "JobSpec", invocation: Invocation) -> "Mapping[str, str] | None":
    """What leads to the engine of a job in containers."""
    from orchestrator.fleets.engine import way_to_engine

    return None if spec.resources.image is None else way_to_engine(invocation.environ)


def _shortages(no_capacity: list[str], no_quota: list[str], throttle: bool) -> "Shortages":
    from orchestrator.fleets.protocol import Market
    from orchestrator.rehearsal.refusals import Shortages

    for what in no_capacity:
        if _CAPACITY.fullmatch(what) is None:
            raise UsageError(f"--no-capacity {what}: name a zone such as us-east-1a, an instance type, or TYPE@ZONE")
    markets: list[Market] = [market for market in get_args(Market) if market in no_quota]
    if strange := sorted(set(no_quota) - set(markets)):
        raise UsageError(f"--no-quota {strange[0]}: it is spot or on_demand")
    return Shortages(frozenset(no_capacity), frozenset(markets), throttle)


def _listed(zones: str | None) -> tuple[str, ...]:
    return tuple(zone.strip() for zone in (zones or "").split(",") if zone.strip())


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    """Where the rehearsal keeps its files: for its length alone, or a new directory of the person's."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="elastic-rehearsal-", ignore_cleanup_errors=True) as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"--keep {keep}: that is there already; name a new directory")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


@contextmanager
def _as_environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Have this for the process's environment, where AWS's libraries look for theirs."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
