"""Rehearsed instances whose workers are containers: they meet, end with their instances, compute a process's bits."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.fleets.engine import RANK_LABEL, WORK_DIR_LABEL, way_to_engine
from orchestrator.fleets.processes import marked_processes
from orchestrator.jobs.bucket import load_record
from orchestrator.jobs.phases import JobPhase
from orchestrator.rehearsal import guard
from orchestrator.rehearsal.account import Account
from orchestrator.rehearsal.guard import ContainersLeft, guarding
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.machine_room import MachineRoom
from orchestrator.rehearsal.rehearsal import Conditions
from tests.rehearsal.conftest import run_instance
from tests.rehearsal.rehearsed import EC2, Rehearsed, rehearsed
from tests.rehearsal.test_command import rehearse
from tests.support.docker_engine import Engine
from tests.support.docker_images import Images
from tests.support.isolation import SESSION_VARIABLE
from tests.support.waiting import wait_until
from tests.survival.own_job import own_job, write
from tests.survival.system import TRAINING, job_yaml, undisturbed_digest

pytestmark = [pytest.mark.requires("seaweedfs", "docker"), pytest.mark.timeout(1800)]

BOUND_S = 600.0
FEWER_STEPS = {**TRAINING, "steps": 80}
NOWHERE = "127.0.0.1:1/trainer:1"
"""An image of a registry that does not answer."""
NOTICE_S = 15.0
GOES_ON = ["sh", "-c", "trap 'exit 75' TERM; while :; do sleep 0.1; done"]


def of(image: str) -> dict[str, Any]:
    """One instance whose worker is a container of this image."""
    return {**EC2, "ladder": EC2["ladder"][:1], "image": image}


def containers(engine: Engine, directory: Path) -> dict[str, str]:
    """The containers of instances below a directory: the work directory of each by its name."""
    columns = f'{{{{.Names}}}} {{{{.Label "{WORK_DIR_LABEL}"}}}}'
    listed = engine.docker("ps", "--all", "--filter", f"label={RANK_LABEL}", "--format", columns)
    rows = dict(line.split() for line in listed.splitlines())
    return {name: work_dir for name, work_dir in rows.items() if work_dir.startswith(f"{directory}/")}


def require_nothing_left(engine: Engine, directory: Path) -> None:
    assert containers(engine, directory) == {}
    assert engine.docker("network", "ls", "--quiet", "--filter", f"label={WORK_DIR_LABEL}") == ""
    assert engine.docker("volume", "ls", "--quiet") == ""


@pytest.fixture
def in_processes(libraries: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the same training ends with in processes that have the image's libraries, with nothing going wrong."""
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(libraries))
        return undisturbed_digest(tmp_path_factory.mktemp("undisturbed"), FEWER_STEPS, BOUND_S)


@pytest.fixture(scope="module")
def cloud(session_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    root = tmp_path_factory.mktemp("cloud")
    with rehearsed(root, Conditions(boot_s=0.5), engine=way_to_engine(session_engine.environ)) as cloud:
        yield cloud
    require_nothing_left(session_engine, root)


def machine_of(cloud: Rehearsed, instance: str) -> Path:
    return cloud.rehearsal.room.machines[cloud.entry(instance).id].directory


def instances_of(cloud: Rehearsed) -> list[str]:
    generation = cloud.system.record.generation
    return list(generation.instances) if generation else []


def test_a_command_in_an_image_moves_at_a_notice_and_ends_with_its_instance(
    cloud: Rehearsed, docker_engine: Engine
) -> None:
    system, root = cloud.system, cloud.system.root

    def place() -> list[str]:
        return list(containers(docker_engine, root).values())

    write(root / "job.json", own_job(command=GOES_ON, config={}, resources=of(docker_engine.base)))
    system.run("submit", str(root / "job.json"), "--no-daemon")
    system.wait(lambda: len(place()) == 1, "a container")
    first = place()
    cloud.interrupt(instances_of(cloud)[0], NOTICE_S)
    system.wait(lambda: len(place()) == 1 and place() != first, "one on another instance, and none there")
    cloud.forget_job()
    cloud.require_all_ended()
    require_nothing_left(docker_engine, root)


def test_two_instances_of_containers_one_of_which_is_lost_end_with_the_bits_of_processes(
    cloud: Rehearsed, docker_engine: Engine, images: Images, in_processes: str
) -> None:
    """Beside a job whose image cannot be had, which is told so while it tries and in the end."""
    system, root = cloud.system, cloud.system.root
    job = write(root / "nowhere.json", job_yaml(name="nowhere", resources=of(NOWHERE), limits={"max_failures": 0}))
    system.run("submit", str(job), "--no-daemon")
    system.wait(lambda: f"{NOWHERE} could not be pulled" in system.run("show", "nowhere"), "it is told", BOUND_S)
    assert not load_record(system.store, "nowhere").value.phase.over

    scaling = {"min": 2, "window": "10m"}
    system.submit(training=FEWER_STEPS, resources={**EC2, "image": images.trainer}, scaling=scaling)
    system.wait(lambda: system.committed_step > 5, "a checkpoint", BOUND_S)
    number, lost = system.record.last_generation, instances_of(cloud)[1]
    names = list(containers(docker_engine, root))
    modes = docker_engine.docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", *names).split()
    assert modes == ["host", "host"], "they meet as on EC2, in the network of their machines"
    assert len(containers(docker_engine, machine_of(cloud, lost))) == 1
    cloud.interrupt(lost, 0)
    system.wait(lambda: cloud.entry(lost).state == "terminated", "it is gone")
    assert containers(docker_engine, machine_of(cloud, lost)) == {}, "and its container with it"
    system.wait(lambda: system.record.phase.over, "it goes on, and ends", BOUND_S)

    assert system.digest() == in_processes, system.story()
    assert system.record.last_generation > number
    system.wait(lambda: load_record(system.store, "nowhere").value.phase.over, "the other ends too", BOUND_S)
    assert load_record(system.store, "nowhere").value.phase is JobPhase.FAILED
    assert f"{NOWHERE} could not be pulled" in system.run("show", "nowhere")
    cloud.require_all_ended()
    require_nothing_left(docker_engine, root)
    billed = {line.instance: line.usd for line in cloud.rehearsal.bill().lines}
    assert len(cloud.ledger) >= 3
    assert all(billed[entry.tags["elastic:instance"]] > 0 for entry in cloud.ledger)


def test_nothing_outlives_a_rehearsal_that_is_killed(docker_engine: Engine, tmp_path: Path) -> None:
    keep = (tmp_path / "kept").resolve()
    job = write(tmp_path / "job.json", own_job(command=GOES_ON, config={}, resources=of(docker_engine.base)))
    rehearsal = rehearse(job, keep, "--boot", "0s")
    try:
        wait_until(lambda: rehearsal.poll() is not None or containers(docker_engine, keep), "a container", 200)
    finally:
        rehearsal.kill()
        said = rehearsal.communicate()
    assert rehearsal.returncode == -signal.SIGKILL, said
    wait_until(lambda: not containers(docker_engine, keep), "its containers are removed")
    wait_until(lambda: not marked_processes(str(keep), guard.VARIABLE), "its machines have ended")
    require_nothing_left(docker_engine, keep)


def test_an_instance_is_not_over_while_its_engine_cannot_say_that_its_containers_are(
    account: Account, ec2: Any, tmp_path: Path
) -> None:
    room = MachineRoom(
        account,
        tmp_path,
        {SESSION_VARIABLE: os.environ[SESSION_VARIABLE]},
        lambda: Credentials("", "", ""),
        engine={"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"},
    )
    room._over.update(entry.id for entry in account.ledger())  # other tests' instances have no machines here
    instance = run_instance(ec2, UserData="#!/bin/sh\nsleep 600\n")
    while instance not in room.machines:
        room.turn()
    ec2.terminate_instances(InstanceIds=[instance])

    def state() -> str:
        return next(entry.state for entry in account.ledger() if entry.id == instance)

    room.turn()
    assert room.machines[instance].is_empty
    assert state() == "shutting-down"
    room.machines[instance].engine = None
    room.turn()
    assert state() == "terminated"


def test_a_guard_waits_for_an_engine_that_is_away(
    docker_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, work_dir = tmp_path / "docker.sock", tmp_path / "i-1" / "elastic" / "work"
    labels = ["--label", f"{WORK_DIR_LABEL}={work_dir}", "--label", f"{RANK_LABEL}=0"]
    docker_engine.docker("run", "--detach", *labels, docker_engine.base, *GOES_ON)
    monkeypatch.setattr(guard, "_BOUND_S", 3.0)
    before = psutil.Process().children()

    with pytest.raises(ContainersLeft), guarding(str(tmp_path), {"DOCKER_HOST": f"unix://{socket}"}):
        [waiting] = [child for child in psutil.Process().children() if child not in before]

    assert len(containers(docker_engine, tmp_path)) == 1
    socket.symlink_to(docker_engine.host.removeprefix("unix://"))
    assert waiting.wait(60) == 0
    assert containers(docker_engine, tmp_path) == {}
