"""What becomes of containers when the engine is away, an image cannot be had, or the agent is gone. A real engine."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from orchestrator.agent.containers.guard import NONE, SOME, Guard
from orchestrator.agent.containers.standing import Patience
from orchestrator.agent.launcher import Program
from orchestrator.fleets.engine import EngineError, remove_instance
from orchestrator.fleets.processes import is_running
from tests.containers.contained import FOR_EVER, Contained, end_from_outside
from tests.support.docker_engine import Engine
from tests.support.waiting import wait_until

pytestmark = pytest.mark.requires("docker")


# --- the engine -------------------------------------------------------------------------------------------------------


def steps_in(contained: Contained) -> int:
    return contained.run.progress.read_text().count('"step"')


def steps_told(lines: str) -> list[int]:
    return [int(line.split()[1]) for line in lines.splitlines() if line.startswith("step ")]


def test_over_a_restart_of_the_engine_ranks_run_on_and_no_line_it_has_is_lost(
    contain: Callable[..., Contained],
) -> None:
    contained = contain()
    contained.start({**FOR_EVER, "talks": True})
    contained.wait_for_steps()
    contained.engine.restart()
    before = steps_in(contained)
    wait_until(lambda: steps_in(contained) > before + 20, "it trains on")
    assert contained.workers.poll(step=None) is None

    ended = contained.wait(contained.workers.ask_to_drain)
    assert ended.outcome == "drained", contained.told()
    said = steps_told(contained.printed(0))
    (row,) = contained.rows()
    kept = contained.client.api.logs(row["Id"], stdout=True, stderr=False).decode()
    assert said == steps_told(kept), "each line that the engine has, once, and in order"
    # What it had taken from the container and not written down when it was ended, it loses itself: a line, once seen.
    assert said == sorted(set(said)) and said[-1] - len(said) <= 2


def test_an_engine_that_stays_away_loses_them_without_a_failure(contain: Callable[..., Contained]) -> None:
    contained = contain(patience=Patience(away_s=1.0))
    contained.start(FOR_EVER)
    contained.wait_for_steps()
    wait_until(lambda: bool(contained.workers.pids), "its process is known")
    (process,) = map(psutil.Process, contained.workers.pids)
    contained.engine.stop()
    try:
        ended = contained.wait()
        assert ended.outcome == "lost"
        assert "Docker engine" in ended.message
        contained.workers.kill()
        wait_until(contained.workers.gone, "its process is killed without the engine")
        assert not is_running(process)
    finally:
        contained.engine.start()
    wait_until(lambda: not contained.rows(), "its container is removed once the engine is back")


def test_ranks_that_ended_with_the_engine_are_lost_and_have_not_failed(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start(FOR_EVER)
    contained.wait_for_steps()
    wait_until(lambda: bool(contained.workers.pids), "its process is known")
    (pid,) = contained.workers.pids
    contained.engine.stop()
    try:
        wait_until(lambda: "Docker engine" in contained.told(), "its absence is seen")
        os.kill(pid, signal.SIGKILL)  # as an engine without live-restore does when it starts
    finally:
        contained.engine.start()
    ended = contained.wait()
    assert (ended.outcome, ended.message) == (
        "lost",
        "the Docker engine was started again, and rank 0 ended with it",
    )


def test_without_an_engine_the_job_is_refused_with_what_to_do(
    contain: Callable[..., Contained], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = f"unix://{tmp_path}/docker.sock"
    environ = {**os.environ, "DOCKER_HOST": nowhere}
    contained = contain(patience=Patience(first_answer_s=0.5), environ=environ)
    wait_until(lambda: contained.workers.warm, "it gives up")
    assert "waiting for the Docker engine" in contained.told()
    contained.start({"steps": 1})
    ended = contained.wait()
    assert (ended.outcome, ended.message) == (
        "refused",
        f"there is no Docker engine at {nowhere}: install and start one, or set DOCKER_HOST",
    )


# --- images -----------------------------------------------------------------------------------------------------------


def test_a_registry_that_does_not_answer_is_tried_again_then_it_fails(
    contain: Callable[..., Contained], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.agent.containers.workers.PULL_PAUSES_S", (0.2, 0.2))
    contained = contain(image="127.0.0.1:1/trainer:1")
    wait_until(lambda: contained.workers.warm, "it gives up")
    contained.start({"steps": 1})
    ended = contained.wait()
    assert ended.outcome == "failed"
    assert ended.message.startswith("the image 127.0.0.1:1/trainer:1 could not be pulled: ")
    assert contained.told().count("pulling 127.0.0.1:1/trainer:1") == 3


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("Trainer:1", "write it as NAME:TAG"),
        ("trainer:1:2", "write it as NAME:TAG"),
    ],
)
def test_an_image_that_no_registry_could_have_is_refused(
    contain: Callable[..., Contained], image: str, said: str
) -> None:
    contained = contain(image=image)
    contained.start({"steps": 1})
    ended = contained.wait()
    assert (ended.outcome, said in ended.message) == ("refused", True), ended


def test_a_program_that_the_image_lacks_is_refused(contain: Callable[..., Contained]) -> None:
    contained = contain(program=Program(("{config}",), "no-such-program"))
    contained.start({"steps": 1})
    ended = contained.wait()
    assert ended.outcome == "refused"
    assert ended.message == f"the image {contained.engine.base} has no program no-such-program"


def test_gpus_without_their_runtime_are_refused(contain: Callable[..., Contained]) -> None:
    contained = contain()
    if "nvidia" in contained.client.info()["Runtimes"]:
        pytest.skip("this engine has GPUs to give")
    contained.start({"steps": 1}, gpus=(0,))
    ended = contained.wait()
    assert (ended.outcome, "install nvidia-container-toolkit" in ended.message) == ("refused", True), ended


# --- several instances ------------------------------------------------------------------------------------------------


def has_met(node: Contained) -> bool:
    return "met" in node.printed(0)


def test_several_instances_meet_in_a_network_of_their_own_that_goes_with_the_last(
    contain: Callable[..., Contained],
) -> None:
    nodes = [contain(instance=f"digits-g1-{node}", agent=f"agent-{node}") for node in (0, 1)]
    for rank, node in reversed(list(enumerate(nodes))):  # the second comes first, and waits
        node.start({**FOR_EVER, "meets": True}, nodes=2, node_rank=rank)
    for rank, node in enumerate(nodes):
        wait_until(partial(has_met, node), f"rank {rank} has met the other", 60)
    seen = nodes[1].environ(1)
    assert (seen["MASTER_ADDR"], seen["GLOO_SOCKET_IFNAME"], seen["WORLD_SIZE"]) == ("rank-0", "eth0", "2")
    (network,) = nodes[0].networks()
    assert network["Internal"], "nothing but the ranks can be reached"
    nodes[0].end()
    assert nodes[0].networks(), "the second is still there"
    nodes[1].end()
    assert not nodes[0].networks()


def test_the_network_goes_with_the_last_also_of_instances_that_are_ended_from_outside(
    contain: Callable[..., Contained],
) -> None:
    nodes = [contain(instance=f"digits-g1-{node}", agent=f"agent-{node}") for node in (0, 1)]
    for rank, node in enumerate(nodes):
        node.start({**FOR_EVER, "meets": True}, nodes=2, node_rank=rank)
    for rank, node in enumerate(nodes):
        wait_until(partial(has_met, node), f"rank {rank} has met the other", 60)
    (network,) = nodes[0].networks()
    end_from_outside(nodes[0].work_dir)
    end_from_outside(nodes[1].work_dir)
    assert not nodes[0].client.api.networks(ids=[network["Id"]])


# --- the agent --------------------------------------------------------------------------------------------------------


def test_who_comes_after_a_killed_agent_removes_what_it_left(contain: Callable[..., Contained]) -> None:
    left = contain(agent="before")
    left.start(FOR_EVER)
    left.wait_for_steps()
    after = contain(agent="after")
    wait_until(lambda: after.workers.warm, "it is ready")
    assert not left.rows()


def test_the_guard_removes_the_containers_of_an_agent_that_was_killed(
    contain: Callable[..., Contained], docker_engine: Engine
) -> None:
    contained = contain(agent="killed")
    contained.start(FOR_EVER, ranks=2)
    contained.wait_for_steps()
    wait_until(lambda: len(contained.workers.pids) == 2, "both are there")  # the second is started after the first
    program = textwrap.dedent(
        """
        import os, time
        import psutil
        from orchestrator.agent.containers.guard import Guard
        Guard("killed", os.environ).begins("run-1")
        print(psutil.Process().children()[0].pid, flush=True)
        time.sleep(600)
        """
    )
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    guard = psutil.Process(int(agent.stdout.readline()))
    assert len(contained.rows()) == 2
    agent.kill()
    agent.wait()
    wait_until(lambda: not contained.rows(), "its containers are removed")
    wait_until(lambda: not is_running(guard), "the guard ends")


def test_the_guard_goes_on_guarding_while_one_of_several_runs_has_containers(
    contain: Callable[..., Contained],
) -> None:
    contained = contain(agent="goes-on")
    contained.start(FOR_EVER)
    contained.wait_for_steps()
    guard = Guard("goes-on", os.environ)
    guard.begins("run-1")
    guard.begins("run-2")
    guard.is_clear("run-1")
    guard.leave()
    wait_until(lambda: not contained.rows(), "the containers of the other are removed")


def test_the_guard_spares_the_containers_of_others(contain: Callable[..., Contained]) -> None:
    contained = contain(agent="lives")
    contained.start(FOR_EVER)
    contained.wait_for_steps()
    guard = [sys.executable, "-m", "orchestrator.agent.containers.guard"]
    subprocess.run([*guard, "another"], input=SOME, check=True, timeout=60)
    assert contained.rows()
    subprocess.run([*guard, "lives"], input=SOME + NONE, check=True, timeout=60)
    assert contained.rows(), "it was told that there is nothing to remove"


def test_whoever_ends_an_instance_ends_its_containers(contain: Callable[..., Contained], tmp_path: Path) -> None:
    contained = contain()
    contained.start(FOR_EVER)
    contained.wait_for_steps()
    end_from_outside(contained.work_dir)
    assert not contained.rows()
    ended = contained.wait()
    assert (ended.outcome, "somebody has removed it" in ended.message) == ("failed", True), ended
    with pytest.raises(EngineError, match="there is no Docker engine"):
        remove_instance({"DOCKER_HOST": f"unix://{tmp_path}/none"}, str(contained.work_dir))


# --- signals ----------------------------------------------------------------------------------------------------------


def test_stacks_are_printed_before_the_end(contain: Callable[..., Contained]) -> None:
    contained = contain()
    contained.start({**FOR_EVER, "stuck_at": 3})
    contained.wait_for_steps()
    wait_until(lambda: steps_in(contained) == 3, "it has made its last step")

    def says_where() -> bool:  # what is printed first may be of the moment before it stands still
        contained.workers.dump_stacks()
        return "stand_still" in contained.printed(0)

    wait_until(says_where, "it says where")


def test_a_program_that_does_not_know_sigterm_is_ended_when_it_is_asked_again(
    contain: Callable[..., Contained],
) -> None:
    contained = contain(program=Program(("-c", "import time; print('up', flush=True); time.sleep(600)"), "python3"))
    contained.start({})
    wait_until(lambda: "up" in contained.printed(0), "it is up", 60)
    contained.workers.ask_to_drain()
    time.sleep(1.5)
    assert contained.workers.poll(step=None) is None, "as the first process of a container it is not ended by it"
    ended = contained.wait(lambda: contained.workers.ask_to_drain(again=True))
    assert "was killed by SIGTERM" in ended.message
