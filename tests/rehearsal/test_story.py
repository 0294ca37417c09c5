"""All of it in one job's life: it grows, is interrupted, loses its controller, and ends as though undisturbed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.jobs.bucket import load_heartbeat
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.rehearsal.refusals import Shortages
from orchestrator.rehearsal.rehearsal import Conditions
from orchestrator.store.lease import read_lease
from tests.rehearsal.rehearsed import EC2, Rehearsed, on_ec2, rehearsed
from tests.survival.light_job import LightJob
from tests.survival.system import TRAINING, undisturbed_digest

pytestmark = [pytest.mark.requires("seaweedfs"), pytest.mark.timeout(500)]

NOTICE_S = 60.0
"""Half of what EC2 gives, so that a machine with much to do is in time too."""
STEPS_BETWEEN_CHECKPOINTS = 165
"""One a second is wanted and takes a while to be committed; no more than 33 steps are made in each."""
FEWER_STEPS = {**TRAINING, "steps": 80}
BOUND_S = 300.0
SEEN_WITHIN_S = 5.0
"""So far what is counted may be off for an instance that AWS took back or that shut itself down: EC2 does not tell
when, so it is counted until a controller has seen it end. When one was told to end EC2 tells, to the second.
"""
SCALING = {"up_above": 8, "down_below": 0, "window": "3s", "warm_up": "1s", "cooldown": "1s"}
CONDITIONS = Conditions(boot_s=1.0, shortages=Shortages(capacity={"us-east-1a", "us-east-1b"}))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    with rehearsed(tmp_path_factory.mktemp("cloud"), CONDITIONS) as cloud:
        yield cloud


def instances_of(cloud: Rehearsed) -> list[str]:
    generation = cloud.system.record.generation
    return list(generation.instances) if generation else []


def trains_on_two(cloud: Rehearsed, after: int = 0) -> bool:
    """Whether two instances train in a generation after that one, and both are measured."""
    if not cloud.system.trains(after + 1) or len(instances_of(cloud)) != 2:
        return False
    beats = [load_heartbeat(cloud.system.store, instance) for instance in instances_of(cloud)]
    return all(beat is not None and beat.utilization is not None for beat in beats)


def epoch_of(cloud: Rehearsed) -> int:
    lease = read_lease(cloud.system.store)
    return lease.epoch if lease else 0


def wait_for_two(cloud: Rehearsed, after: int, why: str) -> None:
    cloud.system.wait(lambda: trains_on_two(cloud, after), f"two instances train {why}", BOUND_S)


def require_zones_with_capacity(cloud: Rehearsed) -> None:
    assert {entry.zone for entry in cloud.ledger}.isdisjoint({"us-east-1a", "us-east-1b"})
    assert {entry.market for entry in cloud.ledger} == {"spot"}


def test_a_job_lives_through_everything(cloud: Rehearsed, tmp_path: Path) -> None:
    system, job = cloud.system, LightJob(tmp_path)
    job.keep_busy()
    system.submit(**on_ec2(job), scaling=SCALING)
    wait_for_two(cloud, 1, "because one was busy")
    [up] = system.events(EventKind.SCALE_UP)
    assert up.inputs["utilization_percent"] > 8

    number = system.record.last_generation
    cloud.interrupt(instances_of(cloud)[0], NOTICE_S)
    wait_for_two(cloud, number, "after an interruption with notice")
    assert system.record.lost_steps <= 1

    made, number = len(job.steps()) - len(set(job.steps())), system.record.last_generation
    assert made <= 1, "at most a step is made twice"
    cloud.interrupt(instances_of(cloud)[1], 0)
    wait_for_two(cloud, number, "after an interruption without")

    epoch = epoch_of(cloud)
    cloud.rehearsal.controller.kill()
    system.wait(lambda: epoch_of(cloud) > epoch, "another controller leads")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)

    assert system.digest() == job.result, system.story()
    assert len(job.steps()) - len(set(job.steps())) <= STEPS_BETWEEN_CHECKPOINTS
    cloud.require_all_ended()
    require_zones_with_capacity(cloud)
    cloud.require_bill_equal_to_what_ec2_shows(client_of(cloud))
    lines = cloud.rehearsal.bill().lines
    billed_usd = sum(line.seconds * line.usd_per_hour for line in lines) / 3600
    dearest_usd_per_hour = max(line.usd_per_hour for line in lines)
    untold = [line for line in lines if not line.why_ended.startswith("Client.UserInitiatedShutdown")]
    allowed_s = SEEN_WITHIN_S * len(untold)
    assert system.record.spent_usd == pytest.approx(billed_usd, abs=(0.1 + allowed_s) * dearest_usd_per_hour / 3600)
    cloud.forget_job()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the same training ends with on this machine, with no cloud and nothing going wrong."""
    return undisturbed_digest(tmp_path_factory.mktemp("undisturbed"), FEWER_STEPS, BOUND_S)


def test_the_mean_teacher_ends_with_the_same_bits_as_on_this_machine(cloud: Rehearsed, undisturbed: str) -> None:
    system = cloud.system
    system.submit(training=FEWER_STEPS, resources=EC2, scaling={"min": 2, "window": "10m"})
    system.wait(lambda: system.committed_step > 5, "a checkpoint")
    number = system.record.last_generation
    cloud.interrupt(instances_of(cloud)[1], 0)
    system.wait(lambda: system.record.phase.over, "it goes on, and ends", BOUND_S)
    assert system.digest() == undisturbed, system.story()
    assert system.record.last_generation > number
    cloud.require_all_ended()
    require_zones_with_capacity(cloud)
    cloud.forget_job()


def client_of(cloud: Rehearsed) -> Any:
    """With the rights of the controller, which may look."""
    import boto3.session

    session: Any = boto3.session.Session()  # boto3's own may be an earlier test's, with another account's keys
    return session.client("ec2", endpoint_url=cloud.rehearsal.account.url)
