"""Several instances in one generation: fixed ranks, one lineage, the same bits; losing one costs time, nothing else."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.fleets.processes import MARKER
from orchestrator.jobs.bucket import load_heartbeat
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.instances import Heartbeat
from orchestrator.jobs.phases import JobPhase
from tests.survival.light_job import STEPS, LightJob
from tests.survival.system import System

TWO_INSTANCES = {"ladder": [{"count": 2, "workers": 1}]}
ONE_OR_TWO_INSTANCES = [{"count": 1, "workers": 1}, {"count": 2, "workers": 1}]


def light(job: LightJob, ladder: list[dict[str, Any]]) -> dict[str, Any]:
    """A job of the light trainer, of whose ranks only the first reports."""
    return {**job.changes, "resources": {**job.changes["resources"], "ladder": ladder}}


def heartbeats(system: System) -> list[Heartbeat]:
    """What the agents of the current generation say of it, in the order of their nodes."""
    generation = system.record.generation
    beats = [load_heartbeat(system.store, i) for i in generation.instances] if generation else []
    return [beat for beat in beats if beat is not None and generation and beat.generation == generation.number]


def both_measure(system: System) -> bool:
    beats = heartbeats(system)
    return len(beats) == 2 and all(beat.utilization and beat.utilization.count > 1 for beat in beats)


def ranks_by_node(system: System) -> list[psutil.Process]:
    """One rank each, in the order of their nodes."""
    generation = system.record.generation
    assert generation is not None
    ranks = {Path(rank.environ()[MARKER]).name: rank for rank in system.processes("rank")}
    return [ranks[instance] for instance in generation.instances]


def listening_addresses(processes: list[psutil.Process]) -> set[str]:
    connections = [c for process in processes for c in process.net_connections(kind="inet")]
    return {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN and c.type == socket.SOCK_STREAM}


def test_two_instances_end_with_the_undisturbed_bits_though_one_is_lost(system: System, undisturbed: str) -> None:
    system.submit(resources=TWO_INSTANCES)
    system.wait(lambda: both_measure(system), "both agents say how busy they are")
    first, second = [beat.progress for beat in heartbeats(system)]
    assert first is not None
    assert second is not None
    assert first.loss is not None, "the first node's trainer says all"
    assert (second.loss, second.data_wait is None, second.step > 0) == (None, False, True), "the other's how far it is"
    system.wait_for_random_step()
    assert len(system.processes("agent")) == 2
    assert listening_addresses(system.instance_processes()) <= {"127.0.0.1"}
    system.processes("agent")[system.rng.randrange(2)].kill()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == undisturbed, system.story()
    assert system.events(EventKind.INSTANCE_LOST)
    system.wait_until_quiet()


def test_of_two_instances_one_is_asked_to_end_and_no_step_is_lost(system: System, undisturbed: str) -> None:
    """As on an interruption that is announced: its ranks hear of it alone, and all of them end after the same step."""
    system.submit(resources=TWO_INSTANCES)
    system.wait_for_random_step()
    system.processes("agent")[system.rng.randrange(2)].terminate()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    assert system.digest() == undisturbed, system.story()
    assert system.record.lost_steps == 0, system.story()
    assert system.record.generation is not None
    assert system.record.generation.cause == "preemption"
    system.wait_until_quiet()


def test_by_measured_utilisation_from_one_instance_to_two_and_back(system: System, tmp_path: Path) -> None:
    """The rule needs the samples of every instance, also of one whose trainer reports nothing."""
    job = LightJob(tmp_path)
    job.keep_busy()
    scaling = {"up_above": 25, "down_below": 15, "window": "3s", "warm_up": "1s", "cooldown": "1s"}
    system.submit(**light(job, ONE_OR_TWO_INSTANCES), scaling=scaling)
    system.wait(lambda: both_measure(system), "two instances train, and both are measured")
    assert {beat.progress is None for beat in heartbeats(system)} == {True, False}
    job.keep_busy(False)
    system.wait(lambda: bool(system.events(EventKind.SCALE_DOWN)), "nobody needs the second any more")
    system.wait(lambda: len(heartbeats(system)) == 1 and system.step > 0, "one instance trains")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)

    [up], [down] = system.events(EventKind.SCALE_UP), system.events(EventKind.SCALE_DOWN)
    assert up.inputs["utilization_percent"] > 25
    assert down.inputs["utilization_percent"] < 15
    assert len(down.inputs["samples"]) == 2
    assert min(down.inputs["samples"]) >= 4
    assert (system.record.resizes, system.record.lost_steps) == (2, 0), system.story()
    assert system.digest() == job.result
    assert job.steps() == list(range(1, STEPS + 1))
    system.wait_until_quiet()


@pytest.mark.parametrize("node", [0, 1])
def test_a_nodes_ranks_are_killed_and_those_that_never_notice_are_ended(
    system: System, tmp_path: Path, node: int
) -> None:
    job = LightJob(tmp_path)
    system.submit(**light(job, [{"count": 2, "workers": 1}]))
    system.wait(lambda: system.step > 10 and system.committed_step > 0, "a checkpoint")
    system.wait(lambda: len(job.processes()) == 2, "the other node's rank has begun too")
    committed, ranks = system.committed_step, ranks_by_node(system)
    os.kill(ranks[node].pid, signal.SIGKILL)
    system.wait(lambda: not any(rank.is_running() for rank in ranks), "the survivor does not hang")
    system.wait(lambda: system.trains(2), "the next generation trains")
    job.let_finish()
    system.wait_for_phase(JobPhase.SUCCEEDED)
    [failed] = system.events(EventKind.WORKER_FAILED)
    assert f"rank {node} was killed by SIGKILL" in failed.message
    generation = system.record.generation
    assert generation is not None
    assert generation.resume_step >= committed
    assert system.digest() == job.result, system.story()
    assert len(job.processes()) == 4
    system.wait_until_quiet()


def test_one_instance_opens_no_port_to_the_outside(system: System) -> None:
    system.submit(scaling={"min": 2, "window": "10m"})
    system.wait(lambda: system.step > 0, "training")
    assert len(system.processes("rank")) == 2
    assert listening_addresses(system.instance_processes()) <= {"127.0.0.1"}
