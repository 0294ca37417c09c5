"""What holds of a job now, and why it does nothing else: answers to what a person would ask. Pure.

The answers are the controller's own: the rule that it applies at its next look is applied here to the same values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli import text
from orchestrator.controller.autoscaling import ScalingDecision, ScalingInputs, decide_scaling, since_s
from orchestrator.controller.recovery import is_due
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Generation, JobRecord

NEITHER = "why it does not grow or shrink"


@dataclass(frozen=True)
class Answer:
    """What a person may ask, and how it is."""

    question: str
    answer: str


def standing(state: JobState, now: datetime) -> list[Answer]:
    """All that there is to say, the most urgent first."""
    record = state.record
    if record.phase.over:
        return [Answer("how it ended", record.reason), *_limits(state, now)]
    running = record.generation if record.generation and record.generation.phase is not GenerationPhase.ENDED else None
    if running is None:
        answers = [*_why_it_does_not_run(state, now)]
    elif running.phase is GenerationPhase.TRAINING and record.wanted == "run":
        answers = [*_why_not_another_size(state, running, now)]
    else:
        answers = [Answer("what it waits for", _awaited(state, running, now))]
    return [*answers, *_progress(state), *_limits(state, now)]


# --- nothing runs -----------------------------------------------------------------------------------------------------


def _why_it_does_not_run(state: JobState, now: datetime) -> Iterator[Answer]:
    record, question = state.record, "why it does not run"
    if record.wanted == "cancel":
        yield Answer(question, f"it is being cancelled; {_not_gone(record)}")
    elif record.phase is JobPhase.PAUSED and record.wanted == "pause":
        yield Answer(question, f"it is paused: elastic resume {record.name} lets it go on")
    elif record.wanted == "pause":
        yield Answer(question, f"it is being paused; {_not_gone(record)}")
    elif not is_due(record.retry_at, now) and record.retry_at is not None:
        yield Answer(question, f"it is tried again in {text.duration(since_s(now, record.retry_at))}: {record.reason}")
    elif record.upcoming is not None:
        yield Answer(question, _awaited_instances(state, record.upcoming))
    else:
        yield Answer(question, f"no controller has decided on its instances yet: {record.reason}")


def _not_gone(record: JobRecord) -> str:
    return f"not gone yet: {', '.join(record.retired)}" if record.retired else "a controller has to see it"


def _awaited_instances(state: JobState, upcoming: Generation) -> str:
    """The instances of a generation that is coming up, each with how far it is."""
    words = []
    for slot in upcoming.slots:
        beat = state.heartbeats.get(slot.instance)
        if beat is not None:
            words.append(f"{slot.instance} is {beat.state}" + _told(beat))
        else:
            words.append(f"{slot.instance} {'has said nothing yet' if slot.seen else 'is being launched'}")
    return f"generation {upcoming.number} waits for its instances: {'; '.join(words)}"


def _told(beat: Heartbeat) -> str:
    said = beat.complaint or beat.activity
    return f" ({said})" if said else ""


# --- something runs ---------------------------------------------------------------------------------------------------


def _awaited(state: JobState, running: Generation, now: datetime) -> str:
    if running.phase is GenerationPhase.DRAINING:
        since = text.duration(since_s(running.drain_at, now))
        return f"the last checkpoint of generation {running.number}, for {since}: {running.drain_reason}"
    if state.record.wanted != "run":
        return f"generation {running.number} to be told to end"
    told = next((told for i in running.instances if (beat := state.heartbeats.get(i)) and (told := _told(beat))), "")
    since = text.duration(since_s(running.started_at or running.created_at, now))
    return f"the first step of generation {running.number}, for {since}{told}"


def _why_not_another_size(state: JobState, running: Generation, now: datetime) -> Iterator[Answer]:
    record, ladder = state.record, state.spec.resources.ladder
    if record.upcoming is not None:
        workers = text.count(ladder[record.upcoming.rung].world_size, "worker")
        yield Answer(f"what becomes of it: {workers}", _awaited_instances(state, record.upcoming))
    elif record.pinned_rung is not None:
        workers = text.count(ladder[record.pinned_rung].world_size, "worker")
        held = f"a person holds it at {workers}: elastic resize {record.name} --auto gives it back"
        yield Answer(NEITHER, held)
    else:
        yield _of_scaling(_scaling_now(state, running, now))
    if starved := text.starved(_data_wait(state, running)):
        yield Answer("what keeps it slow", f"it {starved}: a larger size would not help")


def _scaling_now(state: JobState, running: Generation, now: datetime) -> ScalingDecision:
    beats = [state.heartbeats.get(instance) for instance in running.instances]
    record = state.record
    return decide_scaling(
        state.spec,
        ScalingInputs(
            rung=running.rung,
            utilizations=tuple(b.utilization if b and b.generation == running.number else None for b in beats),
            since_resize_s=since_s(record.last_resize_at, now),
            unavailable=frozenset(rung for rung, until in record.unavailable_rungs.items() if now < until),
        ),
    )


def _of_scaling(decision: ScalingDecision) -> Answer:
    inputs, percent = decision.inputs, decision.inputs["utilization_percent"]
    if decision.verdict != "stay":
        return Answer("what is due", f"{decision.reason}, at the controller's next look")
    if percent is None:
        had = max(0, min(inputs["samples"], default=0) - round(inputs["warm_up_s"]))
        warm_up = f"the first {text.duration(inputs['warm_up_s'])} do not count"
        return Answer(
            NEITHER, f"{had} of the {inputs['window_s']:g} s that are looked at have been measured; {warm_up}"
        )
    if percent > inputs["up_above"]:
        return Answer("why it does not grow", decision.reason)
    return Answer("why it does not shrink" if percent < inputs["down_below"] else NEITHER, decision.reason)


def _data_wait(state: JobState, running: Generation) -> float | None:
    beats = (state.heartbeats.get(instance) for instance in running.instances)
    waits = [beat.progress.data_wait for beat in beats if beat and beat.progress and beat.progress.data_wait]
    return max(waits, default=None)


# --- what it may cost, and what it may lose ---------------------------------------------------------------------------


def _progress(state: JobState) -> Iterator[Answer]:
    step = max((b.progress.step for b in state.heartbeats.values() if b.progress), default=0)
    if state.record.progress is not None:
        step = max(step, state.record.progress.step)
    committed = state.head.step if state.head is not None else 0
    if step or committed:
        at_risk = (
            f", {text.count(step - committed, 'step')} to do again if all were lost now" if step > committed else ""
        )
        yield Answer("what is safe", f"step {committed:,}{at_risk}")


def _limits(state: JobState, now: datetime) -> Iterator[Answer]:
    record, limits = state.record, state.spec.limits
    if record.failures:
        yield Answer("failures", f"{record.failures} in a row without progress, of at most {limits.max_failures}")
    if record.losses:
        yield Answer("losses", f"instances were lost {text.count(record.losses, 'time')} in a row without progress")
    spent = text.usd(record.spend_usd(now))
    if limits.max_cost is not None:
        yield Answer("budget", f"{spent} of {text.usd(limits.max_cost)} spent")
    elif record.spend_usd(now):
        yield Answer("budget", f"{spent} spent, without a limit (limits.max_cost)")
    if limits.deadline is not None and not record.phase.over:
        left_s = limits.deadline - (now - record.created_at).total_seconds()
        yield Answer("deadline", f"in {text.duration(left_s)}" if left_s > 0 else "passed")
    for rung, until in sorted(record.unavailable_rungs.items()):
        if now < until and not record.phase.over:
            workers = text.count(state.spec.resources.ladder[rung].world_size, "worker")
            yield Answer(
                "what cannot be had", f"{workers} (rung {rung}), for another {text.duration(since_s(now, until))}"
            )
