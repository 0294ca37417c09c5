"""`elastic explain`: why a job is as it is."""

import difflib
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.exit_codes import EXIT_FAILED
from orchestrator.cli.invocation import Invocation
from orchestrator.cli.options import JobArgument, OutputOption, StoreOption, flag
from orchestrator.cli.output import Format, emit
from orchestrator.cli.prose import say
from orchestrator.errors import UsageError
from orchestrator.reading import text

if TYPE_CHECKING:
    from orchestrator.jobs.events import EventKind
    from orchestrator.store.protocol import Store


def explain(
    context: typer.Context,
    job: JobArgument,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Decisions since then: 10m (ago), 14:03 or a date.", show_default=False
        ),
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="EVENT", help="Decisions with such an event, e.g. scale_down.", show_default="any"
        ),
    ] = None,
    everything: Annotated[bool, flag("--all", "-a", help="The whole story, also of a long one.")] = False,
    verify: Annotated[
        bool, flag("--verify", help="Decide everything again instead; exit with 1 unless each answer is the same.")
    ] = False,
    output: OutputOption = Format.TABLE,
    store: StoreOption = None,
) -> None:
    """Tell why a job is as it is.

    Each decision with what was seen, what was done, and why nothing else; then what holds now.
    """
    from orchestrator.cli.moments import parse_moment
    from orchestrator.cli.story_reading import Asked, read_story
    from orchestrator.cli.story_view import story_page
    from orchestrator.jobs.bucket import load_state
    from orchestrator.jobs.status import job_status
    from orchestrator.reading.answers import Answer
    from orchestrator.reading.controller_watch import controller_words
    from orchestrator.reading.standing import standing
    from orchestrator.store.lease import read_lease

    invocation = Invocation.of(context)
    where, now = invocation.open_store(store), invocation.now()
    if verify:
        raise typer.Exit(_verify(where, job, output))
    asked = Asked(parse_moment(since, now) if since else None, _kinds_of(kinds or []), everything)
    state = load_state(where, job)
    status = job_status(state, now)
    story = read_story(where, state.record, asked)
    answers = standing(state, now)
    if not state.record.phase.over:
        answers.append(Answer("who looks after it", controller_words(read_lease(where))))
    if output.for_people and story.earlier:
        say(f"{text.count(story.earlier, 'earlier event')} not told: elastic explain {job} --all")
    emit(
        output,
        data=lambda: {
            "job": job,
            "phase": str(status.phase),
            "reason": status.reason,
            "decisions": [chapter.as_data() for chapter in story.chapters],
            "now": [{"question": answer.question, "answer": answer.answer} for answer in answers],
        },
        names=lambda: [str(chapter.head.kind) for chapter in story.chapters],
        table=lambda: story_page(story.chapters, status, answers, now, wide=output is Format.WIDE),
    )


def _kinds_of(names: list[str]) -> "frozenset[EventKind]":
    """Raises UsageError for what is no kind of event. (Typer could tell too, but pydantic is too heavy for --help.)"""
    from orchestrator.jobs.events import EventKind

    wrong = next((name for name in names if name not in list(EventKind)), None)
    if wrong is not None:
        close = difflib.get_close_matches(wrong, list(EventKind), n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(EventKind)}"
        raise UsageError(f"--kind: there is no event '{wrong}': {hint}")
    return frozenset(EventKind(name) for name in names)


def _verify(store: "Store", job: str, output: Format) -> int:
    """Replay what is kept and say what came out otherwise; the exit code."""
    from orchestrator.controller.replay import replay

    verdicts = list(replay(store, job))
    wrong = [verdict for verdict in verdicts if verdict.differences]
    if wrong or not output.for_people:
        emit(
            output,
            data=lambda: [
                {"decision": v.decision, "epoch": v.epoch, "differences": list(v.differences)} for v in verdicts
            ],
            names=lambda: [str(verdict.decision) for verdict in wrong],
            table=lambda: "\n".join(f"decision {v.decision}: {line}" for v in wrong for line in v.differences),
        )
    if wrong:
        say(f"{len(wrong)} of {text.count(len(verdicts), 'decision')} came out otherwise or cannot be read.")
        return EXIT_FAILED
    kept = (
        f"{text.count(len(verdicts), 'decision')} replayed, each to the same answer."
        if verdicts
        else "no decision is kept."
    )
    say(f"{job}: {kept}")
    return 0
