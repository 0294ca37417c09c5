"""The status of a job as a person or a program sees it: one value made of record, head and heartbeats.

Needs no controller and no instance to be alive: what the bucket holds is enough.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.jobs.bucket import JobOutline
from orchestrator.jobs.instances import Heartbeat, TrainerProgress, latest_progress, recent_percent
from orchestrator.jobs.pace import bucket_usd
from orchestrator.jobs.phases import GenerationPhase, JobPhase

if TYPE_CHECKING:
    from orchestrator.spec.models import JobSpec
    from orchestrator.spec.outline import SpecOutline


class Size(BaseModel):
    """How large the job is now."""

    model_config = ConfigDict(frozen=True)

    rung: int
    instance: str
    count: int
    workers: int


class Metrics(BaseModel):
    """What the trainer last reported."""

    model_config = ConfigDict(frozen=True)

    accuracy: float | None = None
    student_accuracy: float | None = None
    teacher_accuracy: float | None = None
    loss: float | None = None
    class_loss: float | None = None
    consistency_loss: float | None = None
    consistency_weight: float | None = None
    learning_rate: float | None = None
    ema_decay: float | None = None
    samples_per_second: float | None = None
    data_wait: float | None = None


class JobStatus(BaseModel):
    """`elastic show -o json`: fields are added, never renamed or removed."""

    model_config = ConfigDict(frozen=True)

    name: str
    phase: JobPhase
    reason: str
    wanted: Literal["run", "pause", "cancel"]
    generation: int
    generation_phase: GenerationPhase | None
    upcoming_generation: int | None
    size: Size | None
    step: int
    total_steps: int | None
    committed_step: int
    metrics: Metrics
    utilization_percent: float | None
    utilization_source: Literal["nvml", "cpu"] | None
    up_above: float
    down_below: float
    resizes: int
    failures: int
    lost_steps: int
    image: str | None
    """The container image that its workers run in, or ran in last, by its digest; None: they are processes."""
    spend_usd: float
    """What its instances have cost up to now."""
    usd_per_hour: float
    """What its instances cost now."""
    bucket_usd: float
    """About what the bucket has taken beside that, for requests and the checkpoints that are kept; former versions of
    what was removed, where it keeps them, are not counted."""
    max_cost_usd: float | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    eta_s: float | None
    checkpoint: str | None
    instances: tuple[str, ...]
    labels: dict[str, str]


def job_status(state: JobOutline, now: datetime) -> JobStatus:
    """Put together what is known. Live heartbeats win over the record, which is written less often."""
    record, spec = state.record, state.spec
    generation = record.generation or record.upcoming
    beats = _beats_of(state)
    progress = latest_progress([beat.progress for beat in beats if beat.progress is not None]) or record.progress
    utilization, source = _utilization(beats)
    if utilization is None:
        utilization, source = record.utilization_percent, record.utilization_source
    rung = spec.resources.ladder[generation.rung] if generation and not record.phase.over else None
    return JobStatus(
        name=record.name,
        phase=record.phase,
        reason=record.fleet_trouble
        or next((told for beat in (*beats, *_beats_of_boot(state)) if (told := _doing(beat))), record.reason),
        wanted=record.wanted,
        generation=generation.number if generation else 0,
        generation_phase=generation.phase if generation else None,
        upcoming_generation=record.upcoming.number if record.upcoming else None,
        size=Size(rung=generation.rung, instance=rung.instance, count=rung.count, workers=rung.world_size)
        if rung and generation
        else None,
        step=progress.step if progress else record.committed_step,
        total_steps=progress.total_steps if progress else None,
        committed_step=state.head.step if state.head else 0,
        metrics=Metrics.model_validate(progress.model_dump() if progress else {}),
        utilization_percent=utilization,
        utilization_source=source,
        up_above=spec.scaling.up_above,
        down_below=spec.scaling.down_below,
        resizes=record.resizes,
        failures=record.failures,
        lost_steps=record.lost_steps,
        image=(record.generation.image if record.generation else "") or None,
        spend_usd=round(record.spend_usd(now), 6),
        usd_per_hour=round(record.usd_per_hour, 6),
        bucket_usd=round(_bucket_usd(state, now), 6),
        max_cost_usd=spec.limits.max_cost,
        created_at=record.created_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        eta_s=_eta_s(record.phase, progress, spec),
        checkpoint=state.head.checkpoint if state.head else None,
        instances=tuple(
            i for g in (record.generation, record.upcoming) if g and not record.phase.over for i in g.instances
        ),
        labels=spec.labels,
    )


def _beats_of(state: JobOutline) -> list[Heartbeat]:
    """The heartbeats that speak of the current generation."""
    generation = state.record.generation
    if generation is None or state.record.phase.over:
        return []
    beats = (state.heartbeats.get(instance) for instance in generation.instances)
    return [beat for beat in beats if beat is not None and beat.generation == generation.number]


def _beats_of_boot(state: JobOutline) -> list[Heartbeat]:
    """Where nothing runs, the heartbeats of the instances that are coming up: an image may take minutes to pull."""
    running, upcoming = state.record.generation, state.record.upcoming
    is_running = running is not None and running.phase is not GenerationPhase.ENDED
    if upcoming is None or is_running or state.record.phase.over:
        return []
    beats = (state.heartbeats.get(instance) for instance in upcoming.instances)
    return [beat for beat in beats if beat is not None and beat.state == "booting"]


def _doing(beat: Heartbeat) -> str:
    return beat.complaint or beat.activity


def _utilization(beats: list[Heartbeat]) -> tuple[float | None, Literal["nvml", "cpu"] | None]:
    samples = [beat.utilization for beat in beats if beat.utilization is not None]
    percent = recent_percent(samples)
    return (None, None) if percent is None else (percent, samples[0].source)


def _eta_s(phase: JobPhase, progress: TrainerProgress | None, spec: "JobSpec | SpecOutline") -> float | None:
    """Seconds of training that are left at the present speed."""
    if (
        phase is not JobPhase.RUNNING
        or progress is None
        or progress.total_steps is None
        or not progress.samples_per_second
    ):
        return None
    samples_per_step = _samples_per_step(progress, spec)
    if samples_per_step is None:
        return None
    return round((progress.total_steps - progress.step) * samples_per_step / progress.samples_per_second, 1)


def _samples_per_step(progress: TrainerProgress, spec: "JobSpec | SpecOutline") -> float | None:
    """Of a program of one's own, by what it says it has done so far; None: it does not say."""
    if spec.training is not None:
        return spec.training.images_per_step
    return progress.samples / progress.step if progress.samples and progress.step > 0 else None


def _bucket_usd(state: JobOutline, now: datetime) -> float:
    record = state.record
    if not state.billed or record.started_at is None:
        return 0.0
    stored_bytes = state.head.size_bytes * state.spec.checkpoint.keep if state.head else 0
    stored_hours = max(0.0, (now - record.started_at).total_seconds()) / 3600
    return bucket_usd(record.instance_hours(now), stored_bytes, stored_hours)
