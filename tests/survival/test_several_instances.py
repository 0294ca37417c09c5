"""Several instances in one generation: fixed ranks, one lineage, the same bits; losing one costs time, nothing else."""

import socket

import psutil

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.system import System

TWO_INSTANCES = {"ladder": [{"count": 2, "workers": 1}]}


def listening_addresses(processes: list[psutil.Process]) -> set[str]:
    connections = [c for process in processes for c in process.net_connections(kind="inet")]
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.type == socket.SOCK_STREAM}


def test_two_instances_end_with_the_undisturbed_bits_though_one_is_lost(system: System, undisturbed: str) -> None:
    system.submit(resources=TWO_INSTANCES)
    system.wait_for_random_step()
    assert len(system.processes("agent")) == 2
    assert listening_addresses(system.instance_processes()) <= {"127.0.0.1"}
    system.processes("agent")[system.rng.randrange(2)].kill()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == undisturbed, system.story()
    assert system.events(EventKind.INSTANCE_LOST)
    system.wait_until_quiet()


def test_one_instance_opens_no_port_to_the_outside(system: System) -> None:
    system.submit(scaling={"min": 2, "window": "10m"})
    system.wait(lambda: system.step > 0, "training")
    assert len(system.processes("rank")) == 2
    assert listening_addresses(system.instance_processes()) <= {"127.0.0.1"}
