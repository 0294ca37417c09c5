"""The real daemon is killed at every boundary of its calls to store and fleet, in turn, over a whole job's life.

A job starts on one worker, grows to two by a person's wish, finishes and is cleaned up. `ELASTIC_TEST_SWEEP=1` tells
many more boundaries apart (see mortal_daemons), and takes minutes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from tests.support.s3_servers import seaweed_server, seaweed_store  # noqa: F401
from tests.survival.light_job import STEPS, LightJob
from tests.survival.mortal_daemons import Diary
from tests.survival.system import JOB, System

SWEEP = os.environ.get("ELASTIC_TEST_SWEEP") == "1"
NEXT_ACTION_WITHIN_S = 30.0
SETTLED_S = 1.5
"""A daemon that has lived for so long has met no new boundary in several looks at the job."""


@pytest.fixture
def system(tmp_path: Path, seaweed_store: str) -> Iterator[System]:  # noqa: F811
    system = System.at(tmp_path, seed=0, store_url=seaweed_store)
    try:
        yield system
    finally:
        system.close()


@pytest.mark.requires("seaweedfs")
@pytest.mark.timeout(1800 if SWEEP else 600)
def test_killed_at_every_boundary_of_a_jobs_life(system: System, tmp_path: Path) -> None:
    job, diary = LightJob(tmp_path), Diary(tmp_path / "diary")
    bound_s = 900.0 if SWEEP else 150.0

    def no_daemon_dies_any_more() -> bool:
        born_at: float = diary.read("birth")[-1]["at"]
        return time.monotonic() - born_at > SETTLED_S

    def trains_on(workers: int) -> bool:
        generation = system.record.generation
        training = generation is not None and generation.phase is GenerationPhase.TRAINING
        return training and len(system.processes("rank")) == workers and no_daemon_dies_any_more()

    system.submit(**job.changes)
    daemons = start_mortal_daemons(system, diary)
    system.wait(lambda: trains_on(1), "one worker trains", bound_s)
    system.run("resize", JOB, "--workers", "2", "--no-daemon")
    system.wait(lambda: trains_on(2), "two workers train", bound_s)
    job.let_finish()
    system.wait(lambda: daemons.poll() is not None, "a daemon ends by itself", bound_s)

    tell(diary)
    assert daemons.returncode == 0, system.story()
    nothing_was_wrong_at_any_death(diary)
    died_around_everything_that_changes_something(diary)
    the_next_acted_in_time(diary)
    the_job_does_not_know_of_it(system, job)


def start_mortal_daemons(system: System, diary: Diary) -> "subprocess.Popen[bytes]":
    with open(system.root / "daemon-mortal.log", "ab") as log:
        command = [sys.executable, "-m", "tests.survival.mortal_daemons", system.store.url]
        command += [str(diary.path), str(system.state), *(["--every"] if SWEEP else [])]
        daemons = subprocess.Popen(command, stdout=log, stderr=log, env=system.environ)
    system.daemons.append(daemons)
    return daemons


def tell(diary: Diary) -> None:
    """For whoever wants to see (`pytest -s`)."""
    for death in diary.read("death"):
        print(f"{death['at'] - diary.read('birth')[0]['at']:7.2f} s  {death['boundary']}")


def nothing_was_wrong_at_any_death(diary: Diary) -> None:
    assert not diary.read("fault")
    assert len(diary.read("death")) == len(diary.read("birth")) - 1  # but the last, which ended by itself


def died_around_everything_that_changes_something(diary: Diary) -> None:
    boundaries = [death["boundary"] for death in diary.read("death")]
    assert len(set(boundaries)) == len(boundaries)
    for when in ("before", "after"):
        for call in (
            "store replace control/lease.json",
            "store create jobs/tiny/events/ONE.json",
            "store replace jobs/tiny/record.json",
            "store replace jobs/tiny/head.json",
            "store delete todo/requests/tiny/ONE.json",
            *(f"fleet launch tiny-g{generation}-n0-a0" for generation in (1, 2)),
            *(f"store create instances/tiny-g{generation}-n0-a0/assignment.json" for generation in (1, 2)),
            "store replace instances/tiny-g1-n0-a0/assignment.json",  # drain
            *(f"fleet terminate tiny-g{generation}-n0-a0" for generation in (1, 2)),
            *(f"store delete instances/tiny-g{generation}-n0-a0/heartbeat.json" for generation in (1, 2)),
        ):
            assert any(boundary.startswith(f"{when} {call}") for boundary in boundaries), f"none died {when} {call}"


def the_next_acted_in_time(diary: Diary) -> None:
    """Whoever comes after a death acts on the job within the bound, as long as there is something to act on."""
    actions = [action["at"] for action in diary.read("action")]
    for death in diary.read("death"):
        later = [at for at in actions if at > death["at"]]
        assert not later or later[0] - death["at"] < NEXT_ACTION_WITHIN_S, death["boundary"]


def the_job_does_not_know_of_it(system: System, job: LightJob) -> None:
    """It ended as one that was never disturbed: nothing lost, nothing made twice, nothing left."""
    record = system.record
    assert record.phase is JobPhase.SUCCEEDED, system.story()
    assert (record.last_generation, record.resizes, record.lost_steps) == (2, 1, 0), system.story()
    assert (record.failures, record.losses, record.retired, record.uses) == (0, 0, (), ())
    assert system.digest() == job.result
    assert job.steps() == list(range(1, STEPS + 1))
    assert sorted(rank for _, rank in job.processes()) == [0, 0, 1], "each rank of each generation started once"
    assert system.instance_processes() == []
    launched = {path.parent.name for path in system.state.rglob("request.json")}
    assert launched == {"tiny-g1-n0-a0", "tiny-g2-n0-a0"}
    assert list(system.store.list("todo/requests/")) == []
    assert list(system.store.list("instances/")) == []
    events = system.events()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    told = [event.kind for event in events if event.kind is not EventKind.LEADER_CHANGED]
    assert told == STORY, system.story()


STORY = [
    EventKind.SUBMITTED,
    EventKind.PROVISIONING,
    EventKind.STARTING,
    EventKind.TRAINING,
    EventKind.REQUESTED,
    EventKind.RESIZE,
    EventKind.PROVISIONING,
    EventKind.DRAINING,
    EventKind.GENERATION_ENDED,
    EventKind.STARTING,
    EventKind.TRAINING,
    EventKind.GENERATION_ENDED,
    EventKind.SUCCEEDED,
]
