"""A controller or a store that stands still: others go on, and whoever wakes up does no harm."""

import signal
import time
from pathlib import Path

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.store.lease import read_lease
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import JOB, System

NEXT_ACTION_WITHIN_S = 30.0


def test_a_daemon_that_stands_still_is_replaced_in_time_and_gives_way_when_it_wakes(
    system: System, tmp_path: Path
) -> None:
    """It is not dead, so that the next one has to wait until the lease runs out, as it has to on another machine."""
    job, sleeper = LightJob(tmp_path), system.daemons[0]
    system.submit(**job.changes)
    system.wait(lambda: system.step > 0, "training")
    epoch = system.record.epoch
    system.start_daemon()  # before the other sleeps, for how long a process takes to start is not looked at here
    system.wait(lambda: "standing by" in (system.root / "daemon-1.log").read_text(), "the second stands by")

    sleeper.send_signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    system.run("resize", JOB, "--workers", "2", "--no-daemon")
    system.wait(lambda: system.record.epoch > epoch, "another acts", NEXT_ACTION_WITHIN_S)
    assert time.monotonic() - stopped_at < NEXT_ACTION_WITHIN_S
    sleeper.send_signal(signal.SIGCONT)
    system.wait(lambda: "standing by" in (system.root / "daemon-0.log").read_text(), "it stands by", bound_s=30)
    lease = read_lease(system.store)
    assert lease is not None
    assert lease.owner.pid == system.daemons[1].pid

    system.wait(lambda: len(system.processes("rank")) == 2, "two workers")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert (system.record.last_generation, system.record.lost_steps) == (2, 0), system.story()
    assert system.digest() == job.result
    assert job.steps() == list(range(1, STEPS + 1))
    assert len(system.events(EventKind.LEADER_CHANGED)) == 1
    system.wait_until_quiet()
