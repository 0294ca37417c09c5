"""A rehearsal that tests look into: its store through `System`, its instances through the account's ledger."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.fleets.processes import marked_processes
from orchestrator.rehearsal.account import LedgerEntry
from orchestrator.rehearsal.controller_process import PROGRAM
from orchestrator.rehearsal.guard import VARIABLE
from orchestrator.rehearsal.machine import VARIABLE as MACHINE
from orchestrator.rehearsal.person import STORE_URL
from orchestrator.rehearsal.rehearsal import Conditions, Rehearsal, rehearsing
from tests.support.isolation import SESSION_VARIABLE
from tests.survival.light_job import LightJob
from tests.survival.system import JOB, System

ONE_OR_TWO: list[dict[str, Any]] = [
    {"instance": "g4dn.xlarge", "workers": 1},
    {"instance": "g4dn.xlarge", "count": 2, "workers": 1},
]
EC2: dict[str, Any] = {"fleet": "ec2", "ladder": ONE_OR_TWO}


@dataclass(frozen=True)
class Rehearsed:
    """One job at a time, in a cloud on loopback."""

    rehearsal: Rehearsal
    system: System

    @property
    def ledger(self) -> list[LedgerEntry]:
        """The instances of the job."""
        return [entry for entry in self.rehearsal.account.ledger() if entry.tags["elastic:job"] == JOB]

    def entry(self, instance: str) -> LedgerEntry:
        """An instance by its name."""
        return next(entry for entry in self.ledger if entry.tags["elastic:instance"] == instance)

    def interrupt(self, instance: str, notice_s: float) -> None:
        """Have EC2 take back an instance."""
        self.rehearsal.room.interrupt(self.entry(instance).id, notice_s)

    def processes(self, instance: str) -> int:
        """How many processes its machine has."""
        return len(marked_processes(str(self.rehearsal.room.machines[self.entry(instance).id].directory), MACHINE))

    def forget_job(self) -> None:
        """End it if it is not over, and remove it, so that another can have its name."""
        if not self.system.record.phase.over:
            self.system.run("cancel", JOB, "--yes")
            self.system.wait(lambda: self.system.record.phase.over, "it is cancelled")
        self.system.run("rm", JOB, "--yes")

    def require_all_ended(self, bound_s: float = 60.0) -> None:
        """No instance lives, and nothing runs of any."""
        living = self.rehearsal.wait_until_ended(bound_s)
        assert living == 0, [entry for entry in self.ledger if entry.ended_at is None]
        assert all(machine.is_empty for machine in self.rehearsal.room.machines.values())

    def require_bill_equal_to_what_ec2_shows(self, ec2: Any) -> None:
        """To the second, by LaunchTime and, where DescribeInstances tells, the time of the end."""
        lines = {line.instance: line for line in self.rehearsal.bill().lines}
        told = 0
        for reservation in ec2.describe_instances()["Reservations"]:
            [shown] = reservation["Instances"]
            name = next(tag["Value"] for tag in shown["Tags"] if tag["Key"] == "elastic:instance")
            ended_at = self.entry(name).ended_at
            assert ended_at is not None
            if "(" in shown["StateTransitionReason"]:
                told += 1
                words = shown["StateTransitionReason"].partition("(")[2].removesuffix(" GMT)")
                ended_at = datetime.strptime(words, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            lived = ended_at.replace(microsecond=0) - shown["LaunchTime"].replace(microsecond=0)
            assert lines[name].seconds == lived.total_seconds()
        assert told, "EC2 tells when those ended that were told to"


def on_ec2(job: LightJob, **resources: Any) -> dict[str, Any]:
    """What job.yaml has instead of the other tests' values."""
    return {**job.changes, "resources": {"env": job.changes["resources"]["env"], **EC2, **resources}}


@contextmanager
def rehearsed(
    root: Path,
    conditions: Conditions,
    *,
    program: tuple[str, ...] = PROGRAM,
    machine_environ: Mapping[str, str] | None = None,
    engine: Mapping[str, str] | None = None,
) -> Iterator[Rehearsed]:
    """A rehearsal to which the environment leads, and that leaves nothing."""
    session = {name: value for name, value in os.environ.items() if name == SESSION_VARIABLE}
    with (
        rehearsing(
            conditions, root, os.environ, lambda _words: None, {**session, **(machine_environ or {})}, program, engine
        ) as rehearsal,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in rehearsal.environ.items():
            patch.setenv(name, value)
        rehearsal.begin()
        yield Rehearsed(rehearsal, System.at(root, seed=0, store_url=STORE_URL))
    assert marked_processes(str(root), VARIABLE) == []
