"""`elastic cost`: what jobs have cost."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import OutputOption, StoreOption, complete_job, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say, warn
from orchestrator.errors import ElasticError, UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.jobs.record import JobRecord
    from orchestrator.reading.costs import Cost
    from orchestrator.store.protocol import Store

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


def cost(
    context: typer.Context,
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB...", help="Only these jobs.", autocompletion=complete_job, show_default="all"),
    ] = None,
    by: Annotated[str, typer.Option("--by", metavar="WHAT", help="job, day, type or market.")] = "job",
    bucket: Annotated[
        bool, flag("--bucket", help="Also what the bucket takes for each job: lists all it has.")
    ] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Tell what jobs have cost.

    Every second of an instance at the price at which it was launched, up to now.
    Days are of UTC. Removed jobs are not counted.
    """
    from orchestrator.cli.cost_table import cost_table
    from orchestrator.reading.costs import By, charges_of, costs_by

    if by not in list(By):
        raise UsageError(f"--by: costs cannot be told by '{by}': use {', '.join(By)}")
    if bucket and by != By.JOB:
        raise UsageError("--bucket goes with --by job: what lies in the bucket belongs to a job, and to no day or type")
    invocation = Invocation.of(context)
    where, now = invocation.open_store(store), invocation.now()
    records = _records(where, list(dict.fromkeys(jobs or [])))
    costs = costs_by(By(by), ((record.name, charge) for record in records for charge in charges_of(record, now)))
    if bucket:
        costs = _with_bucket(where, costs)
    if costs or not output.for_people:
        emit(
            output,
            data=lambda: [each.as_data(By(by)) for each in costs],
            names=lambda: [each.name for each in costs],
            table=lambda: cost_table(costs, By(by), now),
        )
    if output.for_people:
        _sum_up(where.url, costs, records)
        if where.billed and costs and not bucket:
            _tell_of_requests(costs)


def _records(store: "Store", jobs: list[str]) -> "list[JobRecord]":
    """Of these jobs, or of all. Raises UnknownJob; of all, one that cannot be read is left out with a warning."""
    from orchestrator.jobs.bucket import UnknownJob, job_names, load_record

    def load(job: str) -> "JobRecord | ElasticError":
        try:
            return load_record(store, job).value
        except ElasticError as error:
            if jobs:
                raise
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(load, jobs or job_names(store)))
    for problem in found:
        if isinstance(problem, ElasticError) and not isinstance(problem, UnknownJob):
            warn(f"a job is left out: {problem}")
    return [record for record in found if not isinstance(record, ElasticError)]


def _with_bucket(store: "Store", costs: "list[Cost]") -> "list[Cost]":
    """The same, with what each job has in the bucket."""
    from orchestrator.jobs import layout
    from orchestrator.reading.costs import InBucket

    def look(cost: "Cost") -> "Cost":
        stored_bytes = sum(entry.size for entry in store.list(layout.job_prefix(cost.name)))
        return replace(cost, in_bucket=InBucket.of(stored_bytes, cost.hours, billed=store.billed))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(look, costs))


def _tell_of_requests(costs: "list[Cost]") -> None:
    from orchestrator.jobs.pace import bucket_usd
    from orchestrator.reading.costs import in_all

    requests_usd = bucket_usd(in_all(costs).hours, 0, 0)
    say(f"The bucket took about {text.usd(requests_usd)} for requests on top; --bucket tells what is stored, too.")


def _sum_up(url: str, costs: "list[Cost]", records: "list[JobRecord]") -> None:
    from orchestrator.reading.costs import in_all
    from orchestrator.spec.instance_types import PRICES_AS_OF

    if not costs:
        say(f"No instance has run for {url}.")
        return
    whole = in_all(costs)
    say(f"{text.usd(whole.usd)} in all for {whole.hours:,.2f} hours of instances.")
    per_hour = sum(record.usd_per_hour for record in records)
    if per_hour:
        say(f"What runs now costs {text.usd(per_hour)} an hour: elastic instances")
    if whole.saved_usd is not None:
        say(
            f"Spot instances saved {text.usd(whole.saved_usd)} of what AWS took on demand in {PRICES_AS_OF}, us-east-1."
        )
