"""What became of a generation's workers: pure judgement of fleet and heartbeats.

Losing a heartbeat alone ends nothing, for a slow reporter is not a dead one: the fleet's word decides, and only a
silence that is very long counts against an instance that the fleet calls running.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orchestrator.controller.observation import InstanceView
from orchestrator.fleets.protocol import InstanceState
from orchestrator.jobs.instances import TrainerExit
from orchestrator.jobs.record import Generation, Slot

UNRESPONSIVE_AFTER_S = 30.0
SILENCE_IS_LOSS_AFTER_S = 300.0
BOOT_TAKES_AT_MOST_S = 1500.0
"""An instance brings its software along, and ends itself after 1200 s without an agent: the fleet tells that before."""
MAX_BACKOFF_S = 60.0
QUOTA_BACKOFF_S = 600.0
"""A quota is not raised within minutes, but another job's end may leave room in it."""


_BAD_INPUT = 2
"""Exit code in the run directory's contract: what was asked for cannot be done, as far as this rank can tell."""


@dataclass(frozen=True)
class Judgement:
    """How a generation stands."""

    verdict: Literal["alive", "finished", "drained", "failed", "refused", "lost", "stalled"]
    message: str = ""
    instances: tuple[str, ...] = ()
    """The instances that the verdict is about."""


def judge(generation: Generation, views: Mapping[str, InstanceView], stall_after_s: float) -> Judgement:
    """Judge the workers of a generation that was started.

    Workers that report no new step for `stall_after_s`, and before the first no new activity, stand still.
    """
    exits = {i: exited for i in generation.instances if (exited := exit_of(generation.number, views.get(i)))}
    refused = [(i, exited) for i, exited in exits.items() if exited.outcome == "refused"]
    if refused and not (refused[0][1].code == _BAD_INPUT and _has_trained(generation, views)):
        return Judgement("refused", refused[0][1].message, tuple(i for i, _ in refused))
    failed = [(i, exited) for i, exited in exits.items() if exited.outcome in ("failed", "refused")]
    if failed:
        return Judgement("failed", failed[0][1].message, tuple(i for i, _ in failed))
    with_engine = [exited for exited in exits.values() if exited.outcome == "lost"]
    if with_engine:  # the instance is there, and can be used again
        return Judgement("lost", with_engine[0].message)
    lost = [
        s.instance
        for s in generation.slots
        if s.instance not in exits and is_lost(s, views.get(s.instance, InstanceView()))
    ]
    if lost:
        return Judgement("lost", _why_lost(lost, views), tuple(lost))
    if len(exits) < len(generation.slots):
        stalled_s = min((views[i].stalled_s for i in generation.instances if i in views), default=0.0)
        if stalled_s > stall_after_s:
            return Judgement(
                "stalled", f"no new step for {stalled_s:.0f} s{_while(generation, views)}", generation.instances
            )
        return Judgement("alive")
    if all(exited.outcome == "finished" for exited in exits.values()):
        return Judgement("finished", "the trainer finished", generation.instances)
    return Judgement("drained", next(iter(exits.values())).message, generation.instances)


def _has_trained(generation: Generation, views: Mapping[str, InstanceView]) -> bool:
    """Whether the order has led to a step before: then it is not a bad one, and what refuses it now may pass."""
    beats = [beat for i in generation.instances if i in views and (beat := views[i].heartbeat) is not None]
    steps = (beat.progress for beat in beats if beat.generation == generation.number)
    return generation.resume is not None or generation.training_at is not None or any(step for step in steps)


def exit_of(number: int, view: InstanceView | None) -> TrainerExit | None:
    """How the workers of generation `number` ended on an instance, if they did."""
    beat = view.heartbeat if view else None
    return beat.exit if beat is not None and beat.generation == number else None


def does_not_come_up(slot: Slot, view: InstanceView) -> bool:
    """Whether an instance that was launched is lost before it works: one that still boots has never spoken."""
    return is_lost(slot, view, BOOT_TAKES_AT_MOST_S if view.heartbeat is None else SILENCE_IS_LOSS_AFTER_S)


def is_lost(slot: Slot, view: InstanceView, after_s: float = SILENCE_IS_LOSS_AFTER_S) -> bool:
    """Whether an instance that should be there is not, or has been silent for too long."""
    if view.state is InstanceState.GONE:
        return True
    if view.state is None:
        return (slot.seen and view.vanished) or view.never_shown
    return view.silent_s > after_s


def is_usable(view: InstanceView) -> bool:
    """Whether an instance is there, answers, and waits for work or can be given some."""
    beat = view.heartbeat
    return (
        view.state is InstanceState.RUNNING
        and beat is not None
        and beat.state in ("ready", "stopped")
        and view.silent_s < UNRESPONSIVE_AFTER_S
    )


def can_be_kept(view: InstanceView) -> bool:
    """Whether an instance is there and answers: once its workers have stopped it can work for the next generation."""
    beat = view.heartbeat
    return (
        view.state is InstanceState.RUNNING
        and beat is not None
        and beat.state != "leaving"
        and view.silent_s < UNRESPONSIVE_AFTER_S
    )


def is_leaving(view: InstanceView) -> bool:
    """Whether the end of an instance is announced."""
    return view.heartbeat is not None and view.heartbeat.ends_at is not None


def backoff_s(in_a_row: int) -> float:
    """How long to wait after so many bad ends in a row: not after the first, then ever longer, up to a minute."""
    return 0.0 if in_a_row <= 1 else min(MAX_BACKOFF_S, 2.0**in_a_row)


def is_due(at: datetime | None, now: datetime) -> bool:
    """Whether the time has come. One that lies further ahead than any that is ever set was set by another clock."""
    return at is None or now >= at or (at - now).total_seconds() > QUOTA_BACKOFF_S


def _while(generation: Generation, views: Mapping[str, InstanceView]) -> str:
    """': ' and what an instance said last of what it does or what hinders it, if any did."""
    beats = [beat for i in generation.instances if i in views and (beat := views[i].heartbeat) is not None]
    beats = [beat for beat in beats if beat.generation == generation.number]
    said = [beat.complaint for beat in beats] + [beat.activity for beat in beats]
    return next((f": {text}" for text in said if text), "")


def _why_lost(lost: list[str], views: Mapping[str, InstanceView]) -> str:
    view = views.get(lost[0], InstanceView())
    if view.state is InstanceState.RUNNING:
        return f"{lost[0]} has said nothing for {view.silent_s:.0f} s"
    return f"{lost[0]} is gone: {view.why_gone}" if view.why_gone else f"{lost[0]} is gone"
