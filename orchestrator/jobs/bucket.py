"""Reading and writing whole jobs in the bucket: submit, list, look up."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.errors import ElasticError, UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bell import ring
from orchestrator.jobs.events import Event, EventKind
from orchestrator.jobs.former import former_generation
from orchestrator.jobs.head import Head, load_head
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.record import JobRecord
from orchestrator.spec.outline import SpecOutline
from orchestrator.store import document
from orchestrator.store.document import Document, Nonce, Stored
from orchestrator.store.protocol import Conflict, Store, StoreError

if TYPE_CHECKING:
    from orchestrator.spec.models import JobSpec


class UnknownJob(UsageError):
    """No job of that name is in the store."""


class NameTaken(UsageError):
    """There is a job of that name already."""


@dataclass(frozen=True)
class JobOutline:
    """What a list shows is made from this: a part of job.yaml will do. The heartbeats are of instances in use now."""

    spec: "JobSpec | SpecOutline"
    record: JobRecord
    head: Head | None
    heartbeats: dict[str, Heartbeat]
    billed: bool
    """Whether that bucket is (`Store.billed`)."""


@dataclass(frozen=True)
class JobState(JobOutline):
    """A job as the bucket has it."""

    spec: "JobSpec"


def submit_job(store: Store, spec: "JobSpec", now: datetime, nonce: Nonce) -> Stored[JobRecord]:
    """Put a job into the bucket. The spec is the claim of the name; the record makes it visible to controllers.

    Raises NameTaken. A submit that died between the two is completed by the same submit again.
    """
    body = spec.model_dump_json(indent=2).encode()
    try:
        store.create(layout.spec_key(spec.name), body)
    except Conflict as conflict:
        present = store.get(layout.spec_key(spec.name))
        if present is None:  # another write of the key was under way, and came to nothing
            raise StoreError(f"'{spec.name}' could not be written to {store.url}: submit it again") from conflict
        half_done = present.body == body and store.get(layout.record_key(spec.name)) is None
        if not half_done:
            raise NameTaken(
                f"a job named '{spec.name}' exists already in {store.url}: choose another name with --name, "
                f"or look at it with: elastic show {spec.name}"
            ) from conflict
    # Before the record: a job that no controller looks at must not exist. No two marks are alike, so that whoever
    # removes that of an earlier job of this name cannot remove this one.
    store.put(layout.todo_key(spec.name), nonce().encode())
    reason = "submitted; waiting for a controller"
    submitted = Event(number=1, at=now, epoch=0, generation=0, kind=EventKind.SUBMITTED, message="submitted")
    record = JobRecord(
        name=spec.name,
        reason=reason,
        created_at=now,
        last_generation=former_generation(store, spec.name),
        last_event=1,
        outbox=(submitted,),
    )
    try:
        submitted_record = document.create(store, layout.record_key(spec.name), record, nonce)
    except Conflict as conflict:
        raise NameTaken(
            f"a job named '{spec.name}' was submitted just now by someone else: choose another name with --name"
        ) from conflict
    ring(store, nonce)
    return submitted_record


def job_names(store: Store) -> Iterator[str]:
    """The names of all jobs, in order."""
    return store.prefixes(layout.JOBS)


def load_spec(store: Store, job: str) -> "JobSpec":
    """What was submitted. Raises UnknownJob, naming the closest job there is."""
    from orchestrator.spec.models import JobSpec

    body = _spec_body(store, job)
    try:
        return JobSpec.model_validate_json(body)
    except ValidationError as error:
        raise ElasticError(
            f"{store.url}: {layout.spec_key(job)} was written by another version: {error.errors()[0]['msg']}"
        ) from error


def _spec_body(store: Store, job: str) -> bytes:
    found = store.get(layout.spec_key(job))
    if found is not None:
        return found.body
    close = difflib.get_close_matches(job, list(job_names(store)), n=1)
    hint = f"did you mean '{close[0]}'?" if close else "see what there is with: elastic ps --all"
    raise UnknownJob(f"no job named '{job}' in {store.url}: {hint}")


def _load_outline(store: Store, job: str) -> "JobSpec | SpecOutline":
    """Of what was submitted; the whole of it where it has another shape, which tells what is wrong."""
    try:
        return SpecOutline.model_validate_json(_spec_body(store, job))
    except ValidationError:
        return load_spec(store, job)


def load_record(store: Store, job: str) -> Stored[JobRecord]:
    """The record of a job. Raises UnknownJob."""
    stored = document.load(store, layout.record_key(job), JobRecord)
    if stored is None:
        load_spec(store, job)  # says what is wrong if there is no such job at all
        raise UnknownJob(f"the submit of '{job}' was interrupted: submit the same file again to complete it")
    return stored


def load_heartbeat(store: Store, instance: str) -> Heartbeat | None:
    """The last word of an instance, or None if it has said nothing yet."""
    found = store.get(layout.heartbeat_key(instance))
    if found is None:
        return None
    try:
        return Heartbeat.model_validate_json(found.body)
    except ValidationError as error:
        raise StoreError(
            f"{store.url}: {layout.heartbeat_key(instance)} is not a heartbeat: {error.errors()[0]['msg']}"
        ) from error


def load_state(store: Store, job: str) -> JobState:
    """Everything that is shown of a job. Raises UnknownJob."""
    record = load_record(store, job).value
    beats, head = _beats_and_head(store, record)
    return JobState(load_spec(store, job), record, head, beats, store.billed)


def outline_of(store: Store, record: JobRecord) -> JobOutline:
    """What a list is made from, of a job whose record was read already."""
    beats, head = _beats_and_head(store, record)
    return JobOutline(_load_outline(store, record.name), record, head, beats, store.billed)


def _beats_and_head(store: Store, record: JobRecord) -> tuple[dict[str, Heartbeat], Head | None]:
    instances = [i for generation in (record.generation, record.upcoming) if generation for i in generation.instances]
    beats = {i: beat for i in instances if (beat := load_heartbeat(store, i)) is not None}
    head = load_head(store, record.name)
    return beats, head.value if head else None


def instances_left(store: Store, job: str) -> list[str]:
    """The instances of a job of which the bucket holds anything."""
    keys = (entry.key for entry in store.list(layout.instances_prefix(job)))
    names = dict.fromkeys(key.removeprefix(layout.INSTANCES).partition("/")[0] for key in keys)
    return [name for name in names if layout.is_instance_of(name, job)]


class StoreIdentity(Document):
    """Written once, when a store is first used. Its nonce is the name."""


def store_identity(store: Store, nonce: Nonce) -> str:
    """Tells this store from an earlier one that was deleted at the same address, and so its instances from those."""
    stored = document.load(store, layout.IDENTITY, StoreIdentity)
    if stored is None:
        try:
            stored = document.create(store, layout.IDENTITY, StoreIdentity(), nonce)
        except Conflict:
            return store_identity(store, nonce)  # another daemon was first
    return stored.value.nonce
