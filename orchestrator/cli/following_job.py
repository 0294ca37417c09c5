"""Following a job to its end: the view that fits, the summary, the exit code."""

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from orchestrator.cli.exit_codes import EXIT_CANCELLED, EXIT_INTERRUPTED, EXIT_JOB_FAILED
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.output import Format, emit, prose_console
from orchestrator.cli.prose import say, say_to_reader, suggest
from orchestrator.cli.summary import summary, time_spent
from orchestrator.jobs import layout
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.controller_watch import ControllerWatch
from orchestrator.reading.following import JobWatch, Look, events_of, follow, interval_s
from orchestrator.reading.log_reading import LogStream
from orchestrator.reading.next_steps import next_steps
from orchestrator.store.protocol import Store

EXIT_CODES: dict[JobPhase, int] = {
    JobPhase.SUCCEEDED: 0,
    JobPhase.FAILED: EXIT_JOB_FAILED,
    JobPhase.CANCELLED: EXIT_CANCELLED,
}
"""What the end of a job means to whoever waited for it."""
LAST_LOG_LINES = 20
MOST_FIRST_EVENTS = 20


class View(Protocol):
    """What shows looks at a job."""

    def show(self, look: Look, controller_missing: bool) -> None:
        """Show what is new."""

    def say(self, sentence: str) -> None:
        """Show a remark."""


def follow_job(invocation: Invocation, store: Store, job: str, output: Format) -> int:
    """Show a job until it is over, then its summary; return the exit code. Ctrl-C leaves the job alone."""
    try:
        last = watch_job(invocation, store, job)
    except KeyboardInterrupt:
        _say_detached(job)
        return EXIT_INTERRUPTED
    print_end(store, last, output)
    say("Next:")
    suggest(*next_steps(last.status, trained=last.spec.training is not None))
    return EXIT_CODES[last.status.phase]


def watch_job(invocation: Invocation, store: Store, job: str) -> Look:
    """Show a job until it is over; gives the last look."""
    watch = JobWatch(store, job, invocation.now, invocation.monotonic)
    controller = ControllerWatch(store, invocation.monotonic)
    last: Look | None = None
    with _view(invocation) as view:
        looks = follow(watch, sleep=invocation.sleep, every_s=interval_s(store), trouble=view.say)
        for look in looks:
            last = look if last is not None else _without_old_events(look, view)
            view.show(last, not last.over and controller.missing())
    assert last is not None  # a watch without a look has raised
    return last


def _without_old_events(first: Look, view: View) -> Look:
    """The first look at a job that was followed before, or by nobody for long: only what happened lately."""
    old = len(first.new_events) - MOST_FIRST_EVENTS
    if old <= 0:
        return first
    view.say(f"{old} earlier events are not shown: elastic events {first.status.name}")
    return replace(first, new_events=first.new_events[old:])


def _view(invocation: Invocation) -> AbstractContextManager[View]:
    """The picture on a terminal, lines elsewhere."""
    if sys.stderr.isatty() and invocation.environ.get("TERM") != "dumb":
        from orchestrator.cli.live_view import LiveView

        return LiveView(prose_console())
    from orchestrator.cli.plain_view import PlainView

    return PlainView(say_to_reader, invocation.monotonic)


def _say_detached(job: str) -> None:
    say(f"Detached. {job} goes on without you.")
    suggest((f"elastic follow {job}", "watch it again"), (f"elastic cancel {job}", "end it"))


def print_end(store: Store, last: Look, output: Format) -> None:
    """Summary on stdout; before it, on stderr, what a job that failed said last."""
    record, status = last.state.record, last.status
    if status.phase is JobPhase.FAILED and record.generation is not None:
        _say_last_lines(store, status.name, record.generation.number)
    spent = time_spent(record, events_of(store, record), last.at)
    emit(
        output,
        data=lambda: status.model_dump(mode="json"),
        names=lambda: [status.name],
        table=lambda: summary(last.state, status, spent),
    )
    sys.stdout.flush()


def _say_last_lines(store: Store, job: str, generation: int) -> None:
    """What the first worker said before the job failed."""
    stream = layout.rank_stream(0)
    tail = LogStream(store, job, generation, stream).tail(LAST_LOG_LINES)
    if tail:
        say(f"── last lines of worker 0, generation {generation} " + "─" * 24)
        say(tail.decode(errors="replace").rstrip("\n"))
        say("─" * 60)
