"""Jobs put into a store as controller, agent and trainer would leave them, without any of the three."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, submit_job
from orchestrator.jobs.events import Event, EventKind, write_event
from orchestrator.jobs.head import Head, Manifest, ManifestFile
from orchestrator.jobs.instances import Heartbeat, TrainerProgress, Utilization
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.jobs.record import Generation, JobRecord, Slot
from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.store import document
from orchestrator.store.protocol import Store

NOW = datetime.now(UTC).replace(microsecond=0)
STARTED = NOW - timedelta(seconds=60)
JOB_YAML = """\
name: digits
training:
  epochs: 2
  shards: 4
resources:
  ladder:
    - {workers: 1}
    - {workers: 2}
    - {workers: 4}
labels:
  team: vision
"""
PROGRESS = TrainerProgress(
    step=412,
    total_steps=700,
    samples_per_second=812.0,
    loss=0.412,
    class_loss=0.231,
    consistency_loss=0.018,
    consistency_weight=10.0,
    student_accuracy=0.892,
    teacher_accuracy=0.953,
)

_numbers = count()


def nonce() -> str:
    """A nonce for tests: never the same, but no randomness."""
    return f"{next(_numbers):032d}"


def spec_named(name: str, *overrides: str) -> JobSpec:
    """The job above under a name."""
    return load_job(JOB_YAML, [f"name={name}", *overrides])


def put_pending(store: Store, name: str = "digits", at: datetime = STARTED) -> JobRecord:
    """A job that was submitted, and no more."""
    return submit_job(store, spec_named(name), at, nonce).value


def change(store: Store, name: str, **changes: Any) -> JobRecord:
    """Write the record as a controller does."""
    stored = load_record(store, name)
    new = stored.value.model_copy(update=changes)
    return document.swap(store, layout.record_key(name), stored, new, nonce).value


def tell(store: Store, name: str, kind: EventKind, message: str, *, at: datetime = NOW, generation: int = 1) -> None:
    """Decide an event: it is in the record's outbox, and those before it are in the bucket."""
    record = load_record(store, name).value
    for event in record.outbox:
        write_event(store, name, event)
    number = record.last_event + 1
    event = Event(number=number, at=at, epoch=1, generation=generation, kind=kind, message=message, inputs={"rung": 0})
    change(store, name, last_event=number, outbox=(event,))


def put_training(store: Store, name: str = "digits", *, percents: tuple[float, ...] = (85.0, 95.0)) -> JobRecord:
    """A job that trains on the second rung, in its first generation."""
    put_pending(store, name)
    instance = f"{name}-g1-n0-a0"
    generation = Generation(
        number=1,
        rung=1,
        phase=GenerationPhase.TRAINING,
        cause="start",
        slots=(Slot(instance=instance, seen=True),),
        created_at=STARTED,
    )
    record = change(
        store,
        name,
        phase=JobPhase.RUNNING,
        reason="running on 2 workers",
        generation=generation,
        last_generation=1,
        started_at=STARTED,
        progress=PROGRESS,
    )
    tell(store, name, EventKind.STARTING, "generation 1 starts with 2 workers", at=STARTED)
    tell(store, name, EventKind.TRAINING, "generation 1 trains from step 0", at=STARTED + timedelta(seconds=5))
    beat(store, name, percents=percents)
    return record


def beat(
    store: Store,
    name: str,
    *,
    number: int = 1,
    percents: tuple[float, ...] = (90.0,),
    step: int = 412,
    data_wait: float | None = None,
    activity: str = "",
    complaint: str = "",
) -> None:
    """The instance's word."""
    instance = f"{name}-g1-n0-a0"
    heartbeat = Heartbeat(
        instance=instance,
        count=number,
        at=NOW,
        state="running",
        job=name,
        generation=1,
        progress=PROGRESS.model_copy(update={"step": step, "data_wait": data_wait}),
        utilization=Utilization(source="cpu", percents=percents, count=len(percents)),
        activity=activity,
        complaint=complaint,
    )
    store.put(layout.heartbeat_key(instance), heartbeat.model_dump_json().encode())


def finish(store: Store, name: str, phase: JobPhase, reason: str, *, at: datetime = NOW) -> None:
    """End a job."""
    kind = {
        JobPhase.SUCCEEDED: EventKind.SUCCEEDED,
        JobPhase.FAILED: EventKind.FAILED,
        JobPhase.CANCELLED: EventKind.CANCELLED,
    }[phase]
    tell(store, name, kind, reason, at=at)
    change(store, name, phase=phase, reason=reason, ended_at=at)


def put_checkpoint(
    store: Store,
    name: str,
    files: dict[str, bytes],
    *,
    step: int = 400,
    final: bool = False,
    size_bytes: int | None = None,
) -> str:
    """Files, their manifest, and the head on them, which may claim another size; returns the checkpoint's prefix."""
    prefix = layout.checkpoint_prefix(name, step, 1)
    described = []
    for file, body in files.items():
        store.create(prefix + file, body)
        described.append(ManifestFile(name=file, size_bytes=len(body), sha256=hashlib.sha256(body).hexdigest()))
    manifest = Manifest(step=step, generation=1, final=final, files=tuple(described))
    store.create(layout.manifest_key(prefix), manifest.model_dump_json().encode())
    head = Head(
        epoch=1,
        generation=1,
        checkpoint=prefix,
        step=step,
        final=final,
        size_bytes=manifest.size_bytes if size_bytes is None else size_bytes,
    )
    stored = document.load(store, layout.head_key(name), Head)
    if stored is None:
        document.create(store, layout.head_key(name), head, nonce)
    else:
        document.swap(store, layout.head_key(name), stored, head, nonce)
    return prefix


def log(store: Store, name: str, generation: int, chunk: int, body: bytes, stream: str = "rank00000") -> None:
    """A chunk of a log, as an agent ships it."""
    store.create(layout.log_key(name, generation, stream, chunk), body)


def word_after_time(line: str, distance: int = 1) -> str:
    """The word so far after the time of day: of an event of yesterday the date comes before that."""
    words = line.split()
    time = next(number for number, word in enumerate(words) if re.fullmatch(r"\d\d:\d\d:\d\d", word))
    return words[time + distance]
