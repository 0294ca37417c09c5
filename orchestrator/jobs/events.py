"""Events: what was decided or seen, with its inputs, numbered per job and never rewritten."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestrator.jobs import layout
from orchestrator.store.protocol import Conflict, Store, StoreError

_AT_ONCE = 16
"""Requests to a remote store are mostly waiting."""


class EventKind(StrEnum):
    """What an event tells of."""

    SUBMITTED = "submitted"
    LEADER_CHANGED = "leader_changed"
    REQUESTED = "requested"
    REQUEST_REFUSED = "request_refused"
    PROVISIONING = "provisioning"
    NO_CAPACITY = "no_capacity"
    STARTING = "starting"
    TRAINING = "training"
    SCALE_UP = "scale_up"
    SCALE_DOWN = "scale_down"
    RESIZE = "resize"
    DRAINING = "draining"
    CHECKPOINT_REJECTED = "checkpoint_rejected"
    CHECKPOINT_FAILED = "checkpoint_failed"
    NOTE = "note"
    WORKER_FAILED = "worker_failed"
    INSTANCE_LOST = "instance_lost"
    UNRESPONSIVE = "unresponsive"
    PREEMPTION_NOTICE = "preemption_notice"
    GENERATION_ENDED = "generation_ended"
    PAUSED = "paused"
    RESUMED = "resumed"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(BaseModel):
    """One numbered fact of a job's story."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    at: datetime
    epoch: int
    generation: int
    kind: EventKind
    message: str
    inputs: dict[str, Any] = {}
    decision: int | None = None
    """The version of the record that came of the decision; what it saw is kept under this number and `epoch`."""


def write_event(store: Store, job: str, event: Event) -> None:
    """Append one event; writing it again is writing it once, for its number is its key."""
    key = layout.event_key(job, event.number)
    try:
        store.create(key, event.model_dump_json().encode())
    except Conflict as conflict:
        # A controller before us wrote it and died before it could say so, or another write of it was under way.
        if store.get(key) is None:
            raise StoreError(f"{store.url}: {key} could not be written: {conflict}") from conflict


def read_event(store: Store, job: str, number: int) -> Event | None:
    """One event by its number; None: it is not there (yet)."""
    key = layout.event_key(job, number)
    found = store.get(key)
    return None if found is None else _parse(store, key, found.body)


def read_events(store: Store, job: str, after: int = 0) -> Iterator[Event]:
    """The events of a job in order, from number `after` + 1 on."""
    start = layout.event_key(job, after) if after else ""
    keys = [entry.key for entry in store.list(layout.events_prefix(job), start_after=start)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(store.get, keys):
            if found is not None:
                yield _parse(store, found.key, found.body)


def _parse(store: Store, key: str, body: bytes) -> Event:
    try:
        return Event.model_validate_json(body)
    except ValueError as error:
        raise StoreError(f"{store.url}: {key} is not an event: {error}") from error
