"""Interruptions on the way through EC2: announced or not, they cost a few steps and nothing else."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.fleets.protocol import Market
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.rehearsal.rehearsal import Conditions
from tests.rehearsal.rehearsed import Rehearsed, on_ec2, rehearsed
from tests.survival.light_job import STEPS, LightJob

pytestmark = [pytest.mark.requires("seaweedfs"), pytest.mark.timeout(300)]

NOTICE_S = 60.0
"""Half of what EC2 gives, so that a machine with much to do is in time too."""
WHY: dict[Market, str] = {"spot": "AWS took the spot instance back", "on_demand": "AWS had a fault"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    with rehearsed(tmp_path_factory.mktemp("cloud"), Conditions(boot_s=1.0)) as cloud:
        yield cloud


@pytest.fixture
def job(cloud: Rehearsed, tmp_path: Path) -> Iterator[LightJob]:
    """A job that trains on one instance, with a checkpoint behind it; removed afterwards."""
    job = LightJob(tmp_path)
    cloud.system.submit(**on_ec2(job))
    cloud.system.wait(lambda: cloud.system.step > 0 and cloud.system.committed_step > 0, "training")
    yield job
    cloud.forget_job()


def instance_of(cloud: Rehearsed) -> str:
    generation = cloud.system.record.generation
    assert generation is not None
    [instance] = generation.instances
    return instance


def finish(cloud: Rehearsed, job: LightJob) -> None:
    job.let_finish()
    cloud.system.wait_for_phase(JobPhase.SUCCEEDED)
    assert cloud.system.digest() == job.result, cloud.system.story()
    cloud.require_all_ended()


def test_with_notice_at_most_a_step_is_lost_and_the_next_instance_is_there_in_time(
    cloud: Rehearsed, job: LightJob
) -> None:
    number, first = cloud.system.record.last_generation, instance_of(cloud)
    announced_at = datetime.now(UTC)
    cloud.interrupt(first, NOTICE_S)
    system = cloud.system
    system.wait(lambda: cloud.system.trains(number + 1), "the next generation trains")
    second = instance_of(cloud)
    assert second != first
    assert system.events(EventKind.PREEMPTION_NOTICE)
    assert system.record.lost_steps <= 1
    finish(cloud, job)
    assert len(job.steps()) <= STEPS + 1
    assert cloud.entry(second).launched_at < announced_at + timedelta(seconds=NOTICE_S)


def test_without_notice_what_was_trained_since_the_last_checkpoint_is_trained_again(
    cloud: Rehearsed, job: LightJob
) -> None:
    number, first = cloud.system.record.last_generation, instance_of(cloud)
    committed = cloud.system.committed_step
    cloud.interrupt(first, 0)
    system = cloud.system
    system.wait(lambda: cloud.system.trains(number + 1), "the next generation trains")
    generation = system.record.generation
    assert generation is not None
    assert generation.resume_step >= committed
    [lost] = system.events(EventKind.INSTANCE_LOST)
    assert WHY[cloud.entry(first).market] in lost.message
    assert cloud.processes(first) == 0
    finish(cloud, job)
