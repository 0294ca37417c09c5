"""The story of a job: its events by decision, each with what was seen, done, and why nothing else. Pure.

Events of one decision are those of one version of the record. What they tell of is either a fact that was seen (a
worker died) or what was decided on it (start again); the inputs that a decision's event carries are facts too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from orchestrator.controller.decisions import KeptDecision
from orchestrator.jobs.events import Event, EventKind
from orchestrator.reading import text

Inputs = Mapping[str, Any]

_FACTS = frozenset(
    {
        EventKind.SUBMITTED,
        EventKind.REQUESTED,
        EventKind.TRAINING,
        EventKind.NO_CAPACITY,
        EventKind.CHECKPOINT_REJECTED,
        EventKind.CHECKPOINT_FAILED,
        EventKind.NOTE,
        EventKind.WORKER_FAILED,
        EventKind.INSTANCE_LOST,
        EventKind.UNRESPONSIVE,
        EventKind.PREEMPTION_NOTICE,
        EventKind.GENERATION_ENDED,
    }
)
_WEIGHTY = (
    EventKind.FAILED,
    EventKind.SUCCEEDED,
    EventKind.CANCELLED,
    EventKind.PAUSED,
    EventKind.SCALE_UP,
    EventKind.SCALE_DOWN,
    EventKind.RESIZE,
    EventKind.WORKER_FAILED,
    EventKind.INSTANCE_LOST,
    EventKind.DRAINING,
    EventKind.STARTING,
    EventKind.RESUMED,
    EventKind.PROVISIONING,
)
"""What heads its decision, the weightiest first; others follow in their own order."""


@dataclass(frozen=True)
class Chapter:
    """One decision."""

    head: Event
    events: tuple[Event, ...]
    seen: tuple[str, ...]
    decided: tuple[str, ...]
    """What was decided beside what the head says."""
    done: tuple[str, ...]
    otherwise: tuple[str, ...]
    """Why nothing else was done."""

    def as_data(self) -> dict[str, Any]:
        """For programs: the words, and the events that they were made of."""
        return {
            "decision": self.head.decision,
            "at": self.head.model_dump(mode="json")["at"],
            "epoch": self.head.epoch,
            "generation": self.head.generation,
            "kind": str(self.head.kind),
            "message": self.head.message,
            "seen": list(self.seen),
            "decided": list(self.decided),
            "done": list(self.done),
            "otherwise": list(self.otherwise),
            "events": [event.model_dump(mode="json") for event in self.events],
        }


Group = tuple[Event, ...]
"""The events of one decision."""


def by_decision(events: Iterable[Event]) -> list[Group]:
    """Events in their order, grouped."""
    return [tuple(group) for _, group in groupby(events, key=lambda event: (event.epoch, event.decision, event.at))]


def chapter(events: Group, kept: KeptDecision | None) -> Chapter:
    """One decision in words; `kept`: all that it saw and came to, where that is there still."""
    head = min(events, key=_weight)
    others = [event for event in events if event is not head]
    seen = [event.message for event in others if event.kind in _FACTS]
    for event in events:
        seen += _INPUTS[event.kind](event.inputs) if event.kind in _INPUTS else ()
    intents = [intent for event in events if (intent := _intent(event))]
    return Chapter(
        head=head,
        events=events,
        seen=tuple(dict.fromkeys(seen)),
        decided=tuple(f"{event.kind}: {event.message}" for event in others if event.kind not in _FACTS),
        done=tuple(_done(kept)) if kept is not None and kept.effects else tuple(intents),
        otherwise=tuple(_otherwise(head, events, kept)),
    )


def _weight(event: Event) -> tuple[int, int]:
    return (_WEIGHTY.index(event.kind) if event.kind in _WEIGHTY else len(_WEIGHTY), event.number)


# --- what was seen ----------------------------------------------------------------------------------------------------


def _seen_of_scaling(inputs: Inputs) -> Iterator[str]:
    if (percent := inputs.get("utilization_percent")) is not None:
        source = " and ".join(text.SOURCES.get(source, source) for source in inputs.get("sources", ()))
        samples = " and ".join(map(str, inputs.get("samples", ())))
        over = text.duration(inputs.get("window_s"))
        yield f"mean utilisation {percent:.1f} % ({source}) over {over}, of {samples} samples since the first step"
    if (rung := inputs.get("rung")) is not None and (allowed := inputs.get("allowed_rungs")):
        yield f"rung {rung} of the ladder, of which {_listed(allowed)} are allowed"
    if "since_resize_s" in inputs:
        since_s, cooldown = inputs["since_resize_s"], text.duration(inputs.get("cooldown_s"))
        last = "no resize before" if since_s is None else f"last resize {text.duration(since_s)} before"
        yield f"{last}; cooldown {cooldown}"
    if unavailable := inputs.get("unavailable_rungs"):
        yield f"rungs that could not be had lately: {_listed(unavailable)}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _seen_of_end(inputs: Inputs) -> Iterator[str]:
    step, committed = inputs.get("step"), inputs.get("committed_step")
    if step is not None and committed is not None and step > committed:
        again = text.count(step - committed, "step")
        yield f"step {step:,} was reached, step {committed:,} is committed: {again} to do again"
    elif committed:
        yield f"step {committed:,} is committed"


def _seen_of_conclusion(inputs: Inputs) -> Iterator[str]:
    if inputs.get("committed_step"):
        yield f"step {inputs['committed_step']:,} is committed"
    if inputs.get("failures"):
        yield f"{text.count(inputs['failures'], 'failure')} in a row; at most {inputs.get('max_failures')} are allowed"
    if inputs.get("spend_usd") is not None:
        limit = inputs.get("max_cost_usd")
        yield f"{text.usd(inputs['spend_usd'])} spent" + (f" of {text.usd(limit)}" if limit is not None else "")
    if inputs.get("age_s") is not None:
        limit_s = inputs.get("deadline_s")
        deadline = f"; deadline {text.duration(limit_s)}" if limit_s is not None else ""
        yield f"{text.duration(inputs['age_s'])} after submit{deadline}"


def _seen_of_training(inputs: Inputs) -> Iterator[str]:
    if inputs.get("step") is not None and inputs.get("after_s") is not None:
        yield f"step {inputs['step']:,} reported {text.duration(inputs['after_s'])} after the start"


def _seen_of_draining(inputs: Inputs) -> Iterator[str]:
    if inputs.get("committed_step") is not None:
        yield f"step {inputs['committed_step']:,} was the last that was committed"


def _seen_of_capacity(inputs: Inputs) -> Iterator[str]:
    if inputs.get("permanent") is not None:
        yield "trying again would not help" if inputs["permanent"] else "it may be had later"


_INPUTS: dict[EventKind, Callable[[Inputs], Iterator[str]]] = {
    EventKind.SCALE_UP: _seen_of_scaling,
    EventKind.SCALE_DOWN: _seen_of_scaling,
    EventKind.GENERATION_ENDED: _seen_of_end,
    EventKind.WORKER_FAILED: _seen_of_end,
    EventKind.INSTANCE_LOST: _seen_of_end,
    EventKind.PAUSED: _seen_of_conclusion,
    EventKind.SUCCEEDED: _seen_of_conclusion,
    EventKind.FAILED: _seen_of_conclusion,
    EventKind.CANCELLED: _seen_of_conclusion,
    EventKind.TRAINING: _seen_of_training,
    EventKind.DRAINING: _seen_of_draining,
    EventKind.NO_CAPACITY: _seen_of_capacity,
}


# --- what was done, and why nothing else ------------------------------------------------------------------------------


def _intent(event: Event) -> str | None:
    """What an event says that is to be done, where what was done is not kept."""
    instances = event.inputs.get("instances")
    if event.kind is EventKind.PROVISIONING and instances:
        return f"generation {event.inputs.get('generation')} on {', '.join(instances)}"
    return None


def _done(kept: KeptDecision) -> Iterator[str]:
    """What was to be done at once; what follows from it is done at later looks."""
    for effect in kept.effects:
        what = effect.what
        match effect.kind:
            case "Launch":
                allowance = what.get("allowance_s")
                bound = f", which may live {text.duration(allowance)} at most" if allowance is not None else ""
                yield f"launch {what['instance']}{bound}"
            case "Assign":
                yield f"tell {what['instance']}: {what['action']} generation {what['generation']}"
            case "Seal":
                yield f"seal the checkpoint for generation {what['generation']}"
            case "Terminate":
                yield f"end {what['instance']}"
            case "Forget":
                yield f"remove what {what['instance']} has left"
            case "DropRequest":
                yield "remove the request that was carried out"


def _otherwise(head: Event, events: Group, kept: KeptDecision | None) -> Iterator[str]:
    if head.kind in (EventKind.SCALE_UP, EventKind.SCALE_DOWN):
        yield from _why_not_another_size(head)
    bad = any(event.kind in (EventKind.WORKER_FAILED, EventKind.INSTANCE_LOST) for event in events)
    if kept is not None and bad:
        yield from _why_not_given_up(kept)


def _why_not_another_size(head: Event) -> Iterator[str]:
    inputs, grows = head.inputs, head.kind is EventKind.SCALE_UP
    up_above, down_below = inputs.get("up_above"), inputs.get("down_below")
    if up_above is not None and down_below is not None:
        yield f"not left as it is: that is for {down_below:g} to {up_above:g} %"
    rung, to_rung, allowed = inputs.get("rung"), inputs.get("to_rung"), inputs.get("allowed_rungs", ())
    if rung is None or to_rung is None:
        return
    if any((other > to_rung) if grows else (other < to_rung) for other in allowed):
        yield "no further: one rung at a time, so that each is measured"
    if inputs.get("since_resize_s") is not None:
        yield "not later: the cooldown was over"


def _why_not_given_up(kept: KeptDecision) -> Iterator[str]:
    record = kept.decided
    if record.phase.over or record.wanted != "run":
        return
    if record.failures:
        yield f"not given up: {text.count(record.failures, 'failure')} in a row, and limits.max_failures allows more"
    elif record.losses:
        yield f"not given up: instances were lost {text.count(record.losses, 'time')} in a row, and more is allowed"
    if record.retry_at is not None and record.retry_at > kept.now:
        yield f"not at once: after {text.duration((record.retry_at - kept.now).total_seconds())}, longer each time"
