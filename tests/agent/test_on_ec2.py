"""The agent as it is started on an instance of EC2: the real command, against the metadata service on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.agent.gpus import gpus_for
from orchestrator.agent.imds import ENDPOINT_VARIABLE
from orchestrator.agent.launcher import interface_with, rank_environment
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.ec2.sightings import INSTANCE_TAG
from orchestrator.jobs.instances import Assignment
from orchestrator.rehearsal.imds import Identity, MetadataServer, metadata_server
from tests.agent.agent_process import INSTANCE, JOB
from tests.agent.real_agent import Instance
from tests.support.waiting import wait_until
from tests.survival.light_job import LightJob


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    tags = {INSTANCE_TAG: INSTANCE}
    with metadata_server(Identity("i-0abc", "g4dn.xlarge", "us-east-1a", "127.0.0.1", tags=tags)) as server:
        yield server


def start(instance: Instance, server: MetadataServer, name: str = INSTANCE) -> None:
    command = ["-m", "orchestrator.cli.main", "--store", instance.store.url, "agent", "--cloud", "ec2"]
    command += ["--instance", name, "--job", JOB, "--workers", "1", "--cores", "1", "--gpus", "all"]
    command += ["--work-dir", str(instance.work_dir), "--idle-exit", "60s", "--age", "100s", "--allowance", "1h"]
    # No GPU of the machine that tests run on is of any use to the light trainer.
    instance.start(command=command, environ={ENDPOINT_VARIABLE: server.endpoint, "CUDA_VISIBLE_DEVICES": ""})


def test_on_an_announced_interruption_no_step_is_lost(
    instance: Instance, server: MetadataServer, tmp_path: Path
) -> None:
    job = LightJob(tmp_path)
    start(instance, server)
    order = {"env": job.changes["resources"]["env"], "checkpoint_every_s": 3600.0, "allowance_s": 7200.0}
    instance.order("run", job.changes["training"], **order)
    beat = instance.wait(lambda beat: beat.progress and beat.progress.step > 10, "it trains")
    assert (beat.instance_id, beat.address, beat.ends_at) == ("i-0abc", "127.0.0.1", None)
    assert beat.uptime_s > 100
    wait_until(lambda: (instance.work_dir / "allowance").read_text() == "7200\n", "its allowance is written down")
    alive_s = int((instance.work_dir / "alive").read_text())
    assert 0 <= float(Path("/proc/uptime").read_text().split()[0]) - alive_s < 60

    at = server.interrupt()
    assert instance.wait_for_end() == 0
    beat = instance.wait(lambda beat: beat.state == "leaving", "its last word")
    assert beat.ends_at == at.replace(microsecond=0)
    assert [notice.kind for notice in beat.notices] == ["preemption_notice"]
    assert beat.exit is not None
    assert beat.exit.outcome == "drained"
    assert instance.head.step == job.steps()[-1] > 10
    assert instance.processes() == []


def test_when_no_controller_comes_back_it_ends_by_what_was_granted_last_and_loses_nothing(
    instance: Instance, server: MetadataServer, tmp_path: Path
) -> None:
    """It has existed for 100 s, and begins to leave 300 s before its allowance is used."""
    job = LightJob(tmp_path)
    start(instance, server)
    order = {"env": job.changes["resources"]["env"], "checkpoint_every_s": 3600.0}
    instance.order("run", job.changes["training"], **order, allowance_s=7200.0)
    instance.wait(lambda beat: beat.progress and beat.progress.step > 10, "it trains")
    instance.order("run", job.changes["training"], **order, allowance_s=405.0)
    assert instance.wait_for_end() == 0
    beat = instance.wait(lambda beat: beat.state == "leaving", "its last word")
    assert 100 < beat.uptime_s < 405
    assert "leaving: the allowance of 405 s is used" in instance.log()
    assert instance.head.step == job.steps()[-1] > 10
    assert instance.processes() == []


def test_user_data_of_another_instance_is_refused(instance: Instance, server: MetadataServer) -> None:
    start(instance, server, name="digits-g2-n0-a0")
    assert instance.wait_for_end() == 1
    assert f"i-0abc was launched as {INSTANCE}, and this agent was started as digits-g2-n0-a0" in instance.log()
    assert not list(instance.store.list("instances/"))


def test_ranks_on_several_machines_speak_over_the_interface_with_the_private_address(tmp_path: Path) -> None:
    loopback = interface_with("127.0.0.1")
    assert loopback is not None
    assert interface_with("203.0.113.7") is None
    order = Assignment(epoch=1, job=JOB, generation=1, action="run", nodes=2, master_address="10.0.3.7", master_port=1)
    environ = rank_environment(RunDirectory(tmp_path), order, "127.0.0.1", ())
    assert (environ["GLOO_SOCKET_IFNAME"], environ["NCCL_SOCKET_IFNAME"]) == (loopback, loopback)
    assert "ELASTIC_RENDEZVOUS" not in environ
    mine = order.model_copy(update={"env": {"NCCL_SOCKET_IFNAME": "eth1"}})
    assert rank_environment(RunDirectory(tmp_path), mine, "127.0.0.1", ())["NCCL_SOCKET_IFNAME"] == "eth1"


def pci_device(devices: Path, name: str, vendor: str, kind: str) -> None:
    (devices / name).mkdir(parents=True)
    (devices / name / "vendor").write_text(f"{vendor}\n")
    (devices / name / "class").write_text(f"{kind}\n")


def test_gpus_that_no_driver_shows_are_given_all_the_same(tmp_path: Path) -> None:
    """The trainer that cannot use them then says what is missing; on a machine without any it takes the CPU."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    assert gpus_for(2, hidden, tmp_path / "none") == ()
    pci_device(tmp_path, "0000:00:03.0", "0x1d0f", "0x030000")
    assert gpus_for(2, hidden, tmp_path) == ()
    for number in range(4):
        pci_device(tmp_path, f"0000:00:1{number}.0", "0x10de", "0x030200")
    pci_device(tmp_path, "0000:00:20.0", "0x10de", "0x068000")  # a bridge between GPUs
    assert gpus_for(2, hidden, tmp_path) == (0, 1)
    assert gpus_for(8, hidden, tmp_path) == (0, 1, 2, 3)
