"""What there is to say of a job, each fact with its name."""

from collections.abc import Iterator

from orchestrator.jobs.bucket import JobState
from orchestrator.jobs.status import JobStatus
from orchestrator.reading import text
from orchestrator.spec.models import JobSpec
from orchestrator.spec.own_program import described_command


def facts(state: JobState, status: JobStatus) -> Iterator[tuple[str, str]]:
    """What it is, how far it is, how large, and what it has cost; times are for whoever shows them."""
    if state.spec.command is not None:
        yield "command", described_command(state.spec.command)
    yield "progress", _progress(state.spec, status)
    yield "accuracy", _accuracy(state.spec, status)
    yield "loss", _loss(status)
    if not status.phase.over:
        yield "size", _size(state, status)
        yield "utilisation", _utilization(status)
    yield (
        "generation",
        f"{status.generation}, {text.count(status.resizes, 'resize')}, {text.count(status.lost_steps, 'step')} lost",
    )
    if status.image is not None:
        yield "image", _image(state, status.image)
    yield "checkpoint", f"step {status.committed_step:,}" if status.checkpoint else "none yet"
    yield "spent", _spent(status)


def wide_facts(state: JobState, status: JobStatus) -> Iterator[tuple[str, str]]:
    """More, for who wants to know all."""
    yield "instances", ", ".join(status.instances) or "none"
    yield "failures", f"{status.failures} in a row of at most {state.spec.limits.max_failures}"
    yield "stored at", status.checkpoint or "–"
    yield "labels", ", ".join(f"{key}={value}" for key, value in status.labels.items()) or "none"
    ladder = (f"{rung.count} × {rung.instance} with {rung.workers}" for rung in state.spec.resources.ladder)
    yield "ladder", "; ".join(ladder)


def _image(state: JobState, digest: str) -> str:
    """As the job names it, and what that was."""
    named = state.spec.resources.image
    return digest if named in (None, digest) else f"{named}, {digest}"


def _progress(spec: JobSpec, status: JobStatus) -> str:
    if status.total_steps is None:
        return f"step {status.step:,}"
    done = text.share(status.step / max(1, status.total_steps), 0)
    per_second = status.metrics.samples_per_second
    speed = f", {text.speed(per_second, own_program=spec.training is None)}" if per_second else ""
    eta = f", ETA {text.duration(status.eta_s)}" if status.eta_s is not None else ""
    return f"step {status.step:,} of {status.total_steps:,}, {done}{speed}{eta}"


def _accuracy(spec: JobSpec, status: JobStatus) -> str:
    metrics = status.metrics
    if spec.training is None:
        return text.share(metrics.accuracy)
    return f"student {text.share(metrics.student_accuracy)}, teacher {text.share(metrics.teacher_accuracy)}"


def _loss(status: JobStatus) -> str:
    metrics = status.metrics
    total = text.number(metrics.loss)
    if metrics.consistency_loss is None:
        return total
    consistency = f"{text.number(metrics.consistency_loss)} × {text.number(metrics.consistency_weight)}"
    return f"{total}: class {text.number(metrics.class_loss)}, consistency {consistency}"


def _size(state: JobState, status: JobStatus) -> str:
    if status.size is None:
        return "not placed yet"
    size, rungs = status.size, len(state.spec.resources.ladder)
    place = f"{size.count} × {size.instance}"
    held = " (held there; elastic resize --auto gives it back)" if state.record.pinned_rung is not None else ""
    return f"{text.count(size.workers, 'worker')} on {place}, rung {size.rung + 1} of {rungs}{held}"


def _utilization(status: JobStatus) -> str:
    band = f"grows above {status.up_above:g} %, shrinks below {status.down_below:g} %"
    if status.utilization_percent is None:
        return f"not measured yet; {band}"
    source = text.SOURCES.get(status.utilization_source or "", "")
    starved = text.starved(status.metrics.data_wait)
    return f"{text.percent(status.utilization_percent)} {source}; {band}" + (f"; {starved}" if starved else "")


def _spent(status: JobStatus) -> str:
    limit = f" of {text.usd(status.max_cost_usd)}" if status.max_cost_usd is not None else ""
    now = f", {text.usd(status.usd_per_hour)} an hour now" if status.usd_per_hour else ""
    bucket = f", and the bucket about {text.usd(status.bucket_usd)}" if status.bucket_usd else ""
    return f"{text.usd(status.spend_usd)}{limit}{now}{bucket}"
