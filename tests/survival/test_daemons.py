"""Two daemons on one store: one acts, the other takes over."""

from pathlib import Path

from orchestrator.jobs.phases import JobPhase
from orchestrator.store.lease import read_lease
from tests.survival.light_job import LightJob
from tests.survival.system import System


def leader_pid(system: System) -> int:
    lease = read_lease(system.store)
    return lease.owner.pid if lease is not None else 0


def test_one_acts_and_the_other_takes_over(system: System, tmp_path: Path) -> None:
    job, first = LightJob(tmp_path), system.daemons[0]
    system.wait(lambda: leader_pid(system) == first.pid, "the first daemon leads")
    second = system.start_daemon()
    system.submit(**job.changes)
    system.wait_for_random_step()
    system.wait(lambda: "standing by" in (system.root / "daemon-1.log").read_text(), "the second stands by")
    assert leader_pid(system) == first.pid
    assert len(system.processes("agent")) == 1
    first.kill()
    first.wait()
    system.wait(lambda: leader_pid(system) == second.pid, "the second daemon leads", bound_s=30)
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == job.result
    assert system.record.last_generation == 1, system.story()


def test_a_daemon_that_ends_hands_over_at_once(system: System) -> None:
    system.wait(lambda: leader_pid(system) == system.daemons[0].pid, "the first daemon leads")
    second = system.start_daemon()
    system.wait(lambda: "standing by" in (system.root / "daemon-1.log").read_text(), "the second stands by")
    system.daemons[0].terminate()
    assert system.daemons[0].wait(timeout=60) == 0
    system.wait(lambda: leader_pid(system) == second.pid, "the second daemon leads", bound_s=15)
