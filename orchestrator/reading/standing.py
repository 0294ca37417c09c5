"""What holds of a job now, and why it does nothing else: answers to what a person would ask. Pure.

The answers are the controller's own: the rule that it applies at its next look is applied here to the same values.
"""

from collections.abc import Iterator
from datetime import datetime

from orchestrator.controller.autoscaling import ScalingDecision, decide_scaling, since_s
from orchestrator.controller.decide import reached_limit, scaling_inputs
from orchestrator.controller.draft import Draft
from orchestrator.controller.observation import InstanceView, Observation
from orchestrator.controller.recovery import is_due
from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Generation, JobRecord
from orchestrator.reading import text
from orchestrator.reading.answers import Answer
from orchestrator.reading.costing import what_cannot_be_had, what_ends_it, what_is_safe

NEITHER = "why it does not grow or shrink"


def standing(state: JobState, now: datetime) -> list[Answer]:
    """All that there is to say, the most urgent first."""
    draft = _draft(state, now)
    record, running = draft.record, draft.running
    if record.phase.over:
        return [Answer("how it ended", record.reason), *what_ends_it(draft)]
    limit = reached_limit(draft) if record.wanted != "cancel" else None
    if limit is not None:
        answers = [Answer("what is due", f"it is brought to its end, with a last checkpoint: {limit}")]
    elif running is None:
        answers = [*_why_it_does_not_run(state, now)]
    elif running.phase is GenerationPhase.TRAINING and record.wanted == "run":
        answers = [*_why_not_another_size(state, running, draft)]
    else:
        answers = [Answer("what it waits for", _awaited(state, running, now))]
    return [*answers, *what_cannot_be_had(draft), *what_is_safe(draft), *what_ends_it(draft)]


def _draft(state: JobState, now: datetime) -> Draft:
    """What a controller that had just come would begin with; what only a fleet could tell it does not know."""
    views = {instance: InstanceView(heartbeat=beat) for instance, beat in state.heartbeats.items()}
    return Draft(Observation(state.record.epoch, state.spec, state.record, state.head, (), views, {}), now)


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


def _why_not_another_size(state: JobState, running: Generation, draft: Draft) -> Iterator[Answer]:
    record, ladder = state.record, state.spec.resources.ladder
    if record.upcoming is not None:
        workers = text.count(ladder[record.upcoming.rung].world_size, "worker")
        yield Answer(f"what becomes of it: {workers}", _awaited_instances(state, record.upcoming))
    elif record.pinned_rung is not None:
        workers = text.count(ladder[record.pinned_rung].world_size, "worker")
        held = f"a person holds it at {workers}: elastic resize {record.name} --auto gives it back"
        yield Answer(NEITHER, held)
    else:
        yield _of_scaling(decide_scaling(state.spec, scaling_inputs(draft, running)))
    if starved := text.starved(_data_wait(state, running)):
        yield Answer("what keeps it slow", f"it {starved}: a larger size would not help")


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
