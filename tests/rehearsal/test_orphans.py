"""Controllers are killed for ever at every boundary of a launch: nothing goes on costing money.

Times are a quarter of the real ones: an agent without work ends after 30 s here and 120 s there, so 150 s are the ten
minutes within which everything has to be gone.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.head import Head, load_head
from orchestrator.rehearsal.account import LedgerEntry
from orchestrator.rehearsal.rehearsal import Conditions
from tests.rehearsal.mortal_elastic import LAUNCH, ORDER, Fate
from tests.rehearsal.rehearsed import Rehearsed, on_ec2, rehearsed
from tests.survival.light_job import LightJob
from tests.survival.system import job_yaml

pytestmark = [pytest.mark.requires("seaweedfs"), pytest.mark.timeout(500)]

TEN_MINUTES_S = 150.0
A_QUARTER = {"ELASTIC_IDLE_EXIT": "30s", "ELASTIC_LOOK_EVERY_S": "15", "ELASTIC_BOOT_LIMIT_S": "300"}


@dataclass(frozen=True)
class Orphan:
    """A job whose controller is gone for ever."""

    name: str
    cloud: Rehearsed
    light: LightJob

    @property
    def instances(self) -> list[LedgerEntry]:
        return [entry for entry in self.cloud.rehearsal.account.ledger() if entry.tags["elastic:job"] == self.name]

    @property
    def head(self) -> Head:
        stored = load_head(self.cloud.system.store, self.name)
        assert stored is not None
        return stored.value

    def trained(self) -> bool:
        return len(self.light.steps()) > 20


class Cradle:
    """Where jobs are submitted, and their controllers die."""

    def __init__(self, cloud: Rehearsed, fate: Path, root: Path) -> None:
        self.cloud, self._fate, self._root = cloud, fate, root
        cloud.rehearsal.controller.back_after_s = float("inf")

    def submit(self, name: str, *, dies: str = "") -> Orphan:
        """A job and a controller for it alone."""
        Fate(name, dies).write(self._fate)
        if not self.cloud.rehearsal.controller.alive:
            self.cloud.rehearsal.controller.start()
        (self._root / name).mkdir()
        job, path = LightJob(self._root / name), self._root / f"{name}.yaml"
        path.write_text(json.dumps(job_yaml(**on_ec2(job), name=name)))
        self.cloud.system.run("submit", str(path), "--no-daemon")
        return Orphan(name, self.cloud, job)

    def decide(self, orphan: Orphan, dies: str) -> None:
        Fate(orphan.name, dies).write(self._fate)

    def wait_for_death(self) -> None:
        self.cloud.system.wait(lambda: not self.cloud.rehearsal.controller.alive, "the controller dies")


@pytest.fixture(scope="module")
def cradle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cradle]:
    root = tmp_path_factory.mktemp("cloud")
    fate = root / "fate"
    Fate("nobody", "").write(fate)
    program = (sys.executable, "-m", "tests.rehearsal.mortal_elastic", str(fate))
    with rehearsed(root, Conditions(boot_s=1.0), program=program, machine_environ=A_QUARTER) as cloud:
        yield Cradle(cloud, fate, root)


def test_whatever_a_controller_leaves_behind_when_it_dies_ends_by_itself(cradle: Cradle) -> None:
    """All orphans wait for their ends together."""
    wait = cradle.cloud.system.wait

    replaced = cradle.submit("replaced")
    wait(lambda: len(replaced.light.steps()) > 0, "training")
    cradle.decide(replaced, f"after {LAUNCH}")
    cradle.cloud.system.run("resize", "replaced", "--workers", "2", "--no-daemon")
    cradle.wait_for_death()
    orphans = {}
    for name, dies in (
        ("worker", f"after {ORDER}"),
        ("ordered", f"before {ORDER}"),
        ("launched", f"after {LAUNCH}"),
        ("intended", f"before {LAUNCH}"),
    ):
        orphans[name] = cradle.submit(name, dies=dies)
        cradle.wait_for_death()
    began_s = time.monotonic()
    worker = orphans["worker"]

    assert orphans["intended"].instances == []
    wait(lambda: worker.trained() and replaced.trained(), "who has work does it")
    for orphan in (worker, replaced):
        orphan.light.let_finish()
    left_s = TEN_MINUTES_S - (time.monotonic() - began_s)
    assert cradle.cloud.rehearsal.wait_until_ended(left_s) == 0, cradle.cloud.rehearsal.account.ledger()
    assert all(machine.is_empty for machine in cradle.cloud.rehearsal.room.machines.values())

    everything = [entry for orphan in (replaced, *orphans.values()) for entry in orphan.instances]
    assert all(entry.why.startswith("Client.InstanceInitiatedShutdown") for entry in everything)
    assert len(replaced.instances) >= 2
    assert [len(orphans[name].instances) for name in ("worker", "ordered", "launched")] == [1, 1, 1]
    for name in ("ordered", "launched"):
        assert orphans[name].light.steps() == [], "nobody gave it work"
    for orphan in (worker, replaced):
        assert orphan.head.final
        assert load_record(cradle.cloud.system.store, orphan.name).value.phase == "running", "and nobody saw it"
