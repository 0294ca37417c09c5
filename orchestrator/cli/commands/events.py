"""`elastic events`: what happened to a job and why."""

import sys
from typing import Annotated

import typer

from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit, print_for_people
from orchestrator.cli.prose import warn


def events(
    context: typer.Context,
    job: JobArgument,
    follow: Annotated[bool, flag("--follow", "-f", help="Go on until the job is over; JSON comes one a line.")] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Print what happened to a job, and why.

    With -o wide, json or yaml also what each decision was based on.
    """
    from orchestrator.cli.event_table import event_table
    from orchestrator.jobs.bucket import load_record
    from orchestrator.reading.following import JobWatch, events_of, interval_s
    from orchestrator.reading.following import follow as follow_looks

    invocation = Invocation.of(context)
    where = invocation.open_store(store)
    wide = output is Format.WIDE
    if not follow:
        found = list(events_of(where, load_record(where, job).value))
        emit(
            output,
            data=lambda: [event.model_dump(mode="json") for event in found],
            names=lambda: [event.kind for event in found],
            table=lambda: event_table(found, invocation.now(), wide=wide),
        )
        return
    watch = JobWatch(where, job, invocation.now, invocation.monotonic)
    header = True
    for look in follow_looks(watch, sleep=invocation.sleep, every_s=interval_s(where), trouble=warn):
        if output.for_people and look.new_events:
            print_for_people(event_table(look.new_events, look.at, wide=wide, header=header), in_full=wide)
            sys.stdout.flush()
            header = False
        for event in () if output.for_people else look.new_events:
            print_line(output, event.kind, event.model_dump_json(), event.model_dump(mode="json"))


def print_line(output: Format, name: str, as_json: str, data: object) -> None:
    """One of a stream of values: a line of JSON, a document of YAML, or a name."""
    from orchestrator.reading.as_yaml import to_yaml

    if output is Format.YAML:
        print("---\n" + to_yaml(data), end="", flush=True)
    else:
        print(as_json if output is Format.JSON else name, flush=True)
