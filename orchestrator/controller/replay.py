"""Every decision that was kept, decided again: the same code on the same values must come to the same answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.controller.decide import Deposed, decide
from orchestrator.controller.decisions import KeptDecision, kept_effects, load_decision
from orchestrator.errors import ElasticError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_spec
from orchestrator.jobs.phases import IllegalTransition
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store


@dataclass(frozen=True)
class Verdict:
    """How one decision came out the second time."""

    decision: int
    differences: tuple[str, ...]
    """What is another, with what it was and what it is now; empty: the answer is the same."""


def replay(store: Store, job: str) -> Iterator[Verdict]:
    """All decisions of a job that are kept, oldest first. Raises UnknownJob."""
    spec = load_spec(store, job)
    for entry in store.list(layout.decisions_prefix(job)):
        number = int(entry.key.rpartition("/")[2].removesuffix(".json"))
        try:
            kept = load_decision(store, job, number)
        except ElasticError as error:
            yield Verdict(number, (str(error),))
            continue
        if kept is not None:
            yield Verdict(number, tuple(differences(spec, kept)))


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
