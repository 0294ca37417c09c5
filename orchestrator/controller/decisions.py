"""Decisions that are kept: all that one saw, and what it came to, so that anybody can ask later why.

One is kept for each version of a record that was decided with events, before the record is written, under the number of
that version and the epoch of the leader. Two leaders can have kept one for the same version, of which only one was then
written: the events carry number and epoch of theirs.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.controller.decide import Decision
from orchestrator.controller.effects import Assign, Effect, Launch
from orchestrator.controller.observation import InstanceView, LaunchFailure, Observation
from orchestrator.fleets.protocol import Offer
from orchestrator.jobs import layout
from orchestrator.jobs.head import Head
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.spec.models import JobSpec
from orchestrator.store.protocol import Store, StoreError


class KeptEffect(BaseModel):
    """What was to be done, by the name of its class and its fields."""

    model_config = ConfigDict(frozen=True)

    kind: str
    what: dict[str, Any]


class KeptDecision(BaseModel):
    """The observation but for the spec, which never changes, and the decision."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    now: datetime
    epoch: int
    record: JobRecord
    head: Head | None
    requests: tuple[Request, ...]
    instances: dict[str, InstanceView]
    offers: dict[str, tuple[Offer, ...]]
    no_offers: dict[str, LaunchFailure]
    since_written_s: float | None
    fleet_trouble: str = ""
    decided: JobRecord
    effects: tuple[KeptEffect, ...]

    def observation(self, spec: JobSpec) -> Observation:
        """What was seen."""
        training = spec.trainer_config
        return Observation(
            epoch=self.epoch,
            spec=spec,
            record=self.record,
            head=self.head,
            requests=self.requests,
            instances={name: _with_training(view, training) for name, view in self.instances.items()},
            offers=self.offers,
            no_offers=self.no_offers,
            since_written_s=self.since_written_s,
            fleet_trouble=self.fleet_trouble,
        )


def keep_decision(store: Store, seen: Observation, decision: Decision) -> None:
    """Keep a decision that has events."""
    now = decision.record.outbox[0].at
    kept = KeptDecision.model_construct(
        now=now,
        epoch=seen.epoch,
        record=seen.record,
        head=seen.head,
        requests=seen.requests,
        instances={name: _with_training(view, {}) for name, view in seen.instances.items()},
        offers=dict(seen.offers),
        no_offers=dict(seen.no_offers),
        since_written_s=seen.since_written_s,
        fleet_trouble=seen.fleet_trouble,
        decided=decision.record,
        effects=tuple(kept_effects(decision.effects)),
    )
    store.put(layout.decision_key(seen.record.name, seen.record.seq + 1, seen.epoch), kept.model_dump_json().encode())


def load_decision(store: Store, job: str, number: int, epoch: int) -> KeptDecision | None:
    """A leader's decision by its number; None: it is not kept, or no longer. Raises StoreError if it cannot be read."""
    key = layout.decision_key(job, number, epoch)
    found = store.get(key)
    if found is None:
        return None
    try:
        return KeptDecision.model_validate_json(found.body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StoreError(f"{key} in {store.url} is no decision that this version can read: {first['msg']}") from error


def kept_effects(effects: Sequence[Effect]) -> list[KeptEffect]:
    """Effects as they are kept: an assignment without what every one of the job has in common."""
    return [KeptEffect(kind=type(effect).__name__, what=_fields_of(effect)) for effect in effects]


def _fields_of(effect: Effect) -> dict[str, Any]:
    match effect:
        case Assign(instance, assignment):
            return {"instance": instance, **assignment.model_dump(mode="json", exclude={"training", "program", "env"})}
        case Launch(request):
            return {field.name: getattr(request, field.name) for field in fields(request)}
        case _:
            return {field.name: getattr(effect, field.name) for field in fields(effect)}


def _with_training(view: InstanceView, training: dict[str, Any]) -> InstanceView:
    """The same view, but for the trainer's configuration in its assignment: every one of the job has the same."""
    if view.assignment is None:
        return view
    shown = {field.name: getattr(view, field.name) for field in fields(view)}
    return InstanceView(**{**shown, "assignment": view.assignment.model_copy(update={"training": training})})
