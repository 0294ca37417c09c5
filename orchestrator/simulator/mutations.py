"""Broken variants of elastic, to show that the simulator would notice: each is small, and a mistake that somebody made.

The real code is patched for as long as a context lasts, and by nothing else than these.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from orchestrator.agent import checkpoints, launcher
from orchestrator.agent.supervisor import Supervisor
from orchestrator.controller import decide, facts, launching, orders, placement, wishes
from orchestrator.controller.act import Actor
from orchestrator.controller.draft import Draft
from orchestrator.controller.effects import Assign, Effect, Launch
from orchestrator.controller.observation import Observation
from orchestrator.controller.watch import JobWatch
from orchestrator.errors import UsageError
from orchestrator.jobs import head as heads
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import Cause, Generation, InstanceUse, JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.simulator.cloud import Cloud
from orchestrator.store import document
from orchestrator.store.document import Stored
from orchestrator.store.protocol import Conflict, Store

Patch = tuple[object, str, object]


def _no_seal() -> list[Patch]:
    """Whoever commits does not look whose the head is."""

    def load_owned_head(store: Store, job: str, _epoch: int, _generation: int) -> Stored[heads.Head]:
        found = heads.load_head(store, job)
        if found is None:
            raise heads.Superseded(f"{job}: there is no head")
        return found

    return [(heads, "load_owned_head", load_owned_head), (checkpoints, "load_owned_head", load_owned_head)]


def _refetch_and_retry() -> list[Patch]:
    """After a conflict the newer etag is fetched, and the same is written again."""
    swap = document.swap

    def stubborn(store: Store, key: str, old: Stored[Any], new: Any, nonce: document.Nonce) -> Stored[Any]:
        try:
            return swap(store, key, old, new, nonce)
        except Conflict:
            found = store.get(key)
            if found is None:
                raise
            return swap(store, key, Stored(document.parse(store, found, type(new)).value, found.etag), new, nonce)

    return [(document, "swap", stubborn)]


def _no_nonce() -> list[Patch]:
    """A record is known as one's own by its sequence number alone."""
    stamped = document._stamped
    return [
        (document, "_stamped", lambda value, seq, _nonce: stamped(value, seq, str(seq))),
    ]


def _launch_before_intent() -> list[Patch]:
    """Instances are launched first, and then it is written down that they shall be."""
    act = Actor.act

    def hasty(self: Actor, seen: Any, stored: Any, decision: Any, watch: Any, fleet: Any) -> bool:
        for effect in decision.effects:
            if isinstance(effect, Launch):
                self._carry_out(effect, watch, fleet)
        return act(self, seen, stored, decision, watch, fleet)

    return [(Actor, "act", hasty)]


def _reaper_off() -> list[Patch]:
    """Instances that are no longer wanted are not ended."""

    def none(*_: object) -> list[Effect]:
        return []

    return [(orders, "_terminations", none)]


def _dead_mans_switch_off() -> list[Patch]:
    """Neither the agent nor a timer on the instance ends what nobody looks after."""

    def stay(self: Supervisor) -> None:
        if self._leaving:
            self._drain_to_leave(self._monotonic())

    def nothing(*_: object) -> None:
        return

    return [
        (Supervisor, "_consider_leaving", stay),
        (Supervisor, "_left_s", float("inf")),
        (Cloud, "_check_agent", nothing),
        (Cloud, "_allowance_used", nothing),
        (Cloud, "agent_died", nothing),
    ]


def _collector_ignores_head() -> list[Patch]:
    """The newest checkpoints are kept, whichever of them is the one to resume from."""

    def remove_old(store: Store, lineage: Any, _head: Any, kept: int, pinned: Callable[[], Collection[str]]) -> None:
        named = [prefix for prefix, _, _ in checkpoints._checkpoints(store, lineage.job)]
        held = pinned()
        for prefix in named[: -max(1, kept - 1)]:
            if prefix not in held:
                store.delete(layout.manifest_key(prefix))

    return [(checkpoints, "remove_old", remove_old)]


def _only_told(kind: str) -> list[Patch]:
    """What people ask for in this way is granted, told, and forgotten."""
    take = wishes._take

    def tell(draft: Draft, request: Request) -> None:
        before = draft.record
        take(draft, request)
        if request.kind == kind:
            draft.set(wanted=before.wanted, pinned_rung=before.pinned_rung)

    return [(wishes, "_take", tell)]


def _never_retold() -> list[Patch]:
    """A new leader seals the heads with its epoch, and never tells it to those who train on."""
    effects_of_current = orders._effects_of_current

    def silent(record: JobRecord, current: Generation, seen: Observation) -> list[Effect]:
        effects: list[Effect] = []
        for effect in effects_of_current(record, current, seen):
            told = seen.view(effect.instance).assignment if isinstance(effect, Assign) else None
            if told is None or not isinstance(effect, Assign) or told.generation != effect.assignment.generation:
                effects.append(effect)
                continue
            order = effect.assignment.model_copy(update={"epoch": told.epoch})
            if not order.same_order(told):
                effects.append(Assign(effect.instance, order))
        return effects

    return [(orders, "_effects_of_current", silent)]


def _takeover_fails() -> list[Patch]:
    """A new leader takes the change of leaders for the failures of a job that runs."""
    take_over = decide._take_over

    def blame(draft: Draft) -> None:
        is_first = draft.record.epoch == 0
        take_over(draft)
        if not is_first and draft.record.phase is JobPhase.RUNNING:
            draft.set(failures=99, reason="the controller was restarted")

    return [(decide, "_take_over", blame)]


def _never_finishes() -> list[Patch]:
    """Every job fails at once, with a reason."""

    def fail(draft: Draft) -> None:
        decide._end(draft, JobPhase.FAILED, EventKind.FAILED, "it cannot be done")

    return [(decide, "_pursue", fail)]


def _reaper_and_switch_off() -> list[Patch]:
    """Neither the controller nor anybody else ends what is not wanted."""
    return [*_reaper_off(), *_dead_mans_switch_off()]


def _count_doubled() -> list[Patch]:
    """Twice the instances that a rung needs are launched."""
    provision = placement.provision

    def generous(draft: Draft, rung: int, cause: Cause, reason: str, **wanted: Any) -> None:
        provision(draft, rung, cause, reason, **wanted)
        upcoming = draft.record.upcoming
        assert upcoming is not None
        size, first = len(upcoming.slots), upcoming.slots[0]
        more = [layout.instance_id(draft.record.name, upcoming.number, size + i, attempt=0) for i in range(size)]
        slots = (
            *upcoming.slots,
            *(first.model_copy(update={"instance": instance, "seen": False}) for instance in more),
        )
        draft.set(upcoming=upcoming.model_copy(update={"slots": slots}))

    return [(decide, "provision", generous)]


def _late_launch_stays() -> list[Patch]:
    """Who stood still within a launch does not look whether it is wanted still."""

    def nothing(*_: object) -> None:
        return

    return [(Actor, "_end_unwanted", nothing)]


def _lives_by_wall_clock() -> list[Patch]:
    """A new leader tells by its wall clock how long instances have lived, whatever the fleet says."""

    def lived_s(self: Draft, use: InstanceUse) -> float:
        passed_s = self.seen.since_written_s
        if passed_s is None:
            passed_s = max(0.0, (self.now - (self.record.counted_at or use.since)).total_seconds())
        return use.lived_s + passed_s

    return [(Draft, "_lived_s", lived_s)]


def _known_by_reply() -> list[Patch]:
    """What a leader has written it knows only where the reply came: else it counts by the wall clock again."""
    write = Actor._write

    def forgetful(self: Actor, stored: Any, record: JobRecord, watch: JobWatch) -> None:
        try:
            write(self, stored, record, watch)
        except Exception:
            watch.writes.clear()
            raise

    return [(Actor, "_write", forgetful)]


def _charges_allowance() -> list[Patch]:
    """Whoever has not watched over an instance charges all that it might have cost, whatever the fleet says."""

    def worst_s(use: InstanceUse, _view: object, epoch: int) -> float:
        return use.lived_s if use.watched_by == epoch or use.allowance_s is None else use.allowance_s

    return [(facts, "_at_most_s", worst_s)]


def _zones_mixed() -> list[Patch]:
    """Each instance of a generation is placed by itself: what is refused in one zone is had in another."""

    def one_by_one(draft: Draft, upcoming: Generation, choice: placement.Choice) -> None:
        place_anew(draft, upcoming, choice)
        moved = draft.record.upcoming
        assert moved is not None
        if moved.rung != upcoming.rung:
            return
        slots = tuple(
            old if draft.seen.view(old.instance).launch_failure is None else new
            for old, new in zip(upcoming.slots, moved.slots, strict=True)
        )
        draft.set(
            upcoming=moved.model_copy(update={"slots": slots}),
            retired=tuple(i for i in draft.record.retired if i not in {slot.instance for slot in slots}),
        )

    place_anew = launching._place_anew
    return [(launching, "_place_anew", one_by_one)]


def _names_used_again() -> list[Patch]:
    """Another offer is asked under the same name: a token that may have been used already."""

    def same_name(draft: Draft, upcoming: Generation, number: int) -> str:
        return upcoming.slots[number].instance if number < len(upcoming.slots) else next_name(draft, upcoming, number)

    next_name = placement.next_name
    return [(launching, "next_name", same_name)]


def _secrets_inherited() -> list[Patch]:
    """Workers are given the whole environment of the agent."""
    return [(launcher, "worker_environment", dict)]


MUTATIONS: dict[str, Callable[[], list[Patch]]] = {
    "no-seal": _no_seal,
    "refetch-and-retry": _refetch_and_retry,
    "no-nonce": _no_nonce,
    "launch-before-intent": _launch_before_intent,
    "reaper-off": _reaper_off,
    "dead-mans-switch-off": _dead_mans_switch_off,
    "collector-ignores-head": _collector_ignores_head,
    "never-retold": _never_retold,
    "takeover-fails": _takeover_fails,
    "never-finishes": _never_finishes,
    "reaper-and-switch-off": _reaper_and_switch_off,
    "count-doubled": _count_doubled,
    "secrets-inherited": _secrets_inherited,
    "zones-mixed": _zones_mixed,
    "names-used-again": _names_used_again,
    "late-launch-stays": _late_launch_stays,
    "lives-by-wall-clock": _lives_by_wall_clock,
    "known-by-reply": _known_by_reply,
    "charges-allowance": _charges_allowance,
    "cancel-only-told": lambda: _only_told("cancel"),
    "pause-only-told": lambda: _only_told("pause"),
    "resize-only-told": lambda: _only_told("resize"),
}
"""By the name that `elastic simulate --mutate` knows them by."""


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break the code in this way while the context lasts; None: leave it whole. Raises UsageError for another name."""
    if name is not None and name not in MUTATIONS:
        raise UsageError(f"'{name}' is no mutation: choose one of {', '.join(MUTATIONS)}")
    with ExitStack() as undo:
        for owner, attribute, broken in MUTATIONS[name]() if name else []:
            whole = vars(owner)[attribute]
            undo.callback(setattr, owner, attribute, whole)
            setattr(owner, attribute, broken)
        yield
