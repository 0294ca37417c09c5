"""Machines of a pool as they would report, and requests, for tests that need no processes."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from orchestrator.fleets.pool.records import Given, Gpu, Host, Hosted, Report
from orchestrator.fleets.protocol import InstanceState, LaunchRequest

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
L4, RTX = "NVIDIA L4", "NVIDIA GeForce RTX 4090"


def report(machine: str, gpus: tuple[str, ...] = (), **changes: Any) -> Report:
    """A machine with these GPUs and two cores."""
    known = Report(
        machine=machine,
        life=f"life of {machine}",
        host=Host(host=f"id:boot-{machine}:1", pid=1, started=1.0, label=f"me@{machine}"),
        state="ready",
        count=1,
        at=NOW,
        joined_at=NOW,
        address="10.0.0.1",
        cores=2,
        gpus=tuple(Gpu(index=index, name=name, memory_bytes=24 * 1024**3) for index, name in enumerate(gpus)),
    )
    return known.model_copy(update=changes)


def hosted(state: InstanceState = InstanceState.RUNNING, job: str = "digits", **given: Any) -> Hosted:
    return Hosted(state=state, job=job, given=Given(**given), lived_s=10.0)


def request(instance: str = "digits-g1-n0-a0", instance_type: str = "any", **changes: Any) -> LaunchRequest:
    job, _, rest = instance.rpartition("-g")
    asked = LaunchRequest(instance, job, int(rest.partition("-")[0]), instance_type, workers=1, cores_per_worker=1)
    return replace(asked, **changes)
