"""Every decision that was kept, decided again: the same code on the same values must come to the same answer."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.controller.decide import Deposed, decide
from orchestrator.controller.decisions import KeptDecision, kept_effects, load_decision
from orchestrator.controller.garbage import DECISIONS_KEPT
from orchestrator.errors import ElasticError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_spec
from orchestrator.jobs.events import Event, read_events
from orchestrator.jobs.phases import IllegalTransition
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


@dataclass(frozen=True)
class Verdict:
    """How one decision came out the second time."""

    decision: int
    epoch: int
    differences: tuple[str, ...]
    """What is another, with what it was and what it is now; empty: the answer is the same."""


def replay(store: Store, job: str) -> Iterator[Verdict]:
    """All decisions of a job that are kept, oldest first, then those that are missing. Raises UnknownJob."""
    spec = load_spec(store, job)
    events = [*read_events(store, job)]  # before the listing: what they tell of was kept before them
    places = [
        place for entry in store.list(layout.decisions_prefix(job)) if (place := layout.parse_decision(entry.key))
    ]

    def read(place: tuple[int, int]) -> KeptDecision | ElasticError | None:
        try:
            return load_decision(store, job, *place)
        except ElasticError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for (number, epoch), kept in zip(places, pool.map(read, places), strict=True):
            if isinstance(kept, ElasticError):
                yield Verdict(number, epoch, (str(kept),))
            elif kept is not None:
                yield Verdict(number, epoch, tuple(differences(spec, kept)))
    yield from _missing(events, places)


def _missing(events: Iterable[Event], kept: Sequence[tuple[int, int]]) -> Iterator[Verdict]:
    """Decisions that events tell of and that are not kept, but for those that may have been collected as old."""
    known = set(kept)
    oldest = min(known) if len(known) >= DECISIONS_KEPT else (0, 0)
    for event in events:
        if event.decision is None or (place := (event.decision, event.epoch)) in known or place < oldest:
            continue
        known.add(place)
        yield Verdict(*place, (f"it is missing: event {event.number} ({event.kind}) tells of it",))


def differences(spec: JobSpec, kept: KeptDecision) -> Iterator[str]:
    """Decide again, and tell what is not as it was."""
    try:
        again = decide(kept.observation(spec), kept.now)
    except (Deposed, IllegalTransition) as error:
        yield f"it cannot be decided again: {error}"
        return
    yield from _compared(kept.decided.model_dump(mode="json"), again.record.model_dump(mode="json"))
    was, now = (
        [effect.model_dump(mode="json") for effect in each] for each in (kept.effects, kept_effects(again.effects))
    )
    if was != now:
        yield f"effects: {_words(was)} became {_words(now)}"


def _compared(was: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in sorted(was.keys() | now.keys()):
        if was.get(name) != now.get(name):
            yield f"{name}: {was.get(name)!r} became {now.get(name)!r}"


def _words(effects: list[dict[str, Any]]) -> str:
    return ", ".join(f"{effect['kind']} {effect['what']}" for effect in effects) or "none"
