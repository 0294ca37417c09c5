"""Which requests make sense for a job as it is; the others are refused with the reason, before they are sent."""

from collections.abc import Iterable
from typing import Literal

from orchestrator.errors import UsageError
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import Request
from orchestrator.spec.models import JobSpec

Wanted = Literal["run", "pause", "cancel"]
_WANTED_BY: dict[str, Wanted] = {"cancel": "cancel", "pause": "pause", "resume": "run"}


def wanted_after(record: JobRecord, waiting: Iterable[Request]) -> Wanted:
    """What people want of a job once the requests that wait are carried out."""
    wanted = record.wanted
    for request in waiting:
        if wanted != "cancel":
            wanted = _WANTED_BY.get(request.kind, wanted)
    return wanted


def check_not_over(record: JobRecord, verb: str) -> None:
    """Refuse to ask anything of a job that is over."""
    if record.phase.over:
        raise UsageError(f"{record.name} is over ({record.phase}): there is nothing to {verb}")


def check_cancel(record: JobRecord) -> None:
    """Refuse to cancel a job that is over. One that is being cancelled already is no mistake."""
    check_not_over(record, "cancel")


def check_pause(record: JobRecord, wanted: Wanted) -> None:
    """Refuse to pause a job that does not run."""
    check_not_over(record, "pause")
    if wanted == "cancel":
        raise UsageError(f"{record.name} is being cancelled: there is nothing to pause")
    if wanted == "pause":
        state = "paused" if record.phase is JobPhase.PAUSED else "being paused"
        raise UsageError(f"{record.name} is {state} already; go on with: elastic resume {record.name}")


def check_resume(record: JobRecord, wanted: Wanted) -> None:
    """Refuse to resume a job that is not paused."""
    check_not_over(record, "resume")
    if wanted == "cancel":
        raise UsageError(f"{record.name} is being cancelled and cannot be resumed")
    if wanted == "run":
        raise UsageError(f"{record.name} is not paused (it is {record.phase}): only a paused job can be resumed")


def check_resize(record: JobRecord, spec: JobSpec, wanted: Wanted, workers: int | None) -> None:
    """Refuse a size that the ladder does not have, or that the job is held at already. None: back to automatic."""
    check_not_over(record, "resize")
    if wanted == "cancel":
        raise UsageError(f"{record.name} is being cancelled: there is nothing to resize")
    ladder = spec.resources.ladder
    if workers is None:
        if record.pinned_rung is None:
            raise UsageError(f"{record.name} is sized automatically already")
        return
    choices = sorted({rung.world_size for rung in ladder if spec.can_have(rung.world_size)})
    if workers not in choices:
        raise UsageError(
            f"{record.name} cannot have {workers} workers: its ladder offers {', '.join(map(str, choices))}"
        )
    if record.pinned_rung is not None and ladder[record.pinned_rung].world_size == workers:
        raise UsageError(f"{record.name} is held at {workers} workers already; give it back to autoscaling with --auto")
