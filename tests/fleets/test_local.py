"""The local fleet: agents that are real processes, once a name, adopted by whoever comes later."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Barrier, Thread

import psutil
import pytest

from orchestrator.fleets import local
from orchestrator.fleets.local import (
    PROCESS_FILE,
    REQUEST_FILE,
    START_GRACE_S,
    SWEEP_AFTER_S,
    LocalFleet,
    Machine,
    open_local_fleet,
)
from orchestrator.fleets.processes import MARKER, end_marked_processes, marked_processes, read_identity, write_identity
from orchestrator.fleets.protocol import InstanceState, LaunchError, LaunchRequest, Offer
from orchestrator.jobs.bucket import load_heartbeat, submit_job
from orchestrator.spec.models import Resources
from orchestrator.store.document import random_nonce
from orchestrator.store.local import LocalStore
from orchestrator.store.owner import this_process
from tests.support.specs import job_spec
from tests.support.waiting import wait_until

NAME = "digits-g1-n0-a0"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    submit_job(store, job_spec(), datetime.now(UTC), random_nonce)
    return store


@pytest.fixture
def fleet(tmp_path: Path, store: LocalStore) -> Iterator[LocalFleet]:
    """A fleet of a machine with four cores; what it started is ended."""
    fleet = new_fleet(tmp_path, store)
    yield fleet
    for directory in fleet.root.iterdir():
        end_marked_processes(str(directory), grace_s=0)
    fleet.describe([])  # waits for children that have ended


def new_fleet(tmp_path: Path, store: LocalStore, machine: Machine | None = None) -> LocalFleet:
    root = tmp_path / "instances"
    root.mkdir(exist_ok=True)
    return LocalFleet(store.url, root, machine or Machine(cores=4), os.environ)


def request(instance: str = NAME, job: str = "digits", workers: int = 1, cores_per_worker: int = 1) -> LaunchRequest:
    return LaunchRequest(instance, job, generation_of(instance), "local", workers, cores_per_worker)


def generation_of(instance: str) -> int:
    return int(instance.split("-g")[1].split("-", maxsplit=1)[0])


def state(fleet: LocalFleet, instance: str = NAME) -> InstanceState | None:
    seen = fleet.describe([instance]).get(instance)
    return None if seen is None else seen.state


def pretend(fleet: LocalFleet, instance: str, job: str, *, cores: int = 0, gpus: tuple[int, ...] = ()) -> Path:
    """An instance of another job, alive as long as this test is."""
    directory = fleet.root / instance
    directory.mkdir()
    (directory / REQUEST_FILE).write_text(
        json.dumps({"job": job, "generation": generation_of(instance), "cores": cores, "gpus": gpus})
    )
    write_identity(directory / PROCESS_FILE, this_process(instance))
    return directory


# --- a real agent -----------------------------------------------------------------------------------------------------


def test_launched_twice_is_started_once_and_ended_it_leaves_nothing(fleet: LocalFleet, store: LocalStore) -> None:
    assert state(fleet) is None
    fleet.launch(replace(request(), allowance_s=900.0))
    assert state(fleet) in (InstanceState.STARTING, InstanceState.RUNNING)
    wait_until(lambda: state(fleet) is InstanceState.RUNNING, "the agent is there")
    wait_until(lambda: load_heartbeat(store, NAME), "the agent has said so")
    agent = read_identity(fleet.root / NAME / PROCESS_FILE)
    fleet.launch(request())
    assert read_identity(fleet.root / NAME / PROCESS_FILE) == agent
    [process] = [p for p in marked_processes(str(fleet.root / NAME)) if "agent" in p.cmdline()]
    assert process.cmdline()[process.cmdline().index("--allowance") + 1] == "900s"

    fleet.terminate(NAME)
    assert state(fleet) is InstanceState.GONE
    assert marked_processes(str(fleet.root / NAME)) == []
    fleet.terminate(NAME)
    fleet.launch(request())
    assert state(fleet) is InstanceState.GONE, "what has ended is not started again"


LAUNCH = """
import os, sys
from pathlib import Path
from orchestrator.fleets.local import LocalFleet, Machine
from orchestrator.fleets.protocol import LaunchRequest
fleet = LocalFleet(sys.argv[1], Path(sys.argv[2]), Machine(4), os.environ)
fleet.launch(LaunchRequest("digits-g1-n0-a0", "digits", 1, "local", 1, 1))
"""


def test_an_instance_outlives_its_controller_and_is_adopted_by_the_next(fleet: LocalFleet, store: LocalStore) -> None:
    subprocess.run([sys.executable, "-c", LAUNCH, store.url, str(fleet.root)], timeout=120, check=True)
    wait_until(lambda: state(fleet) is InstanceState.RUNNING, "the agent is there")
    agent = read_identity(fleet.root / NAME / PROCESS_FILE)
    assert agent is not None
    assert os.getsid(agent.pid) == agent.pid, "it has a session of its own: no terminal's hangup reaches it"
    fleet.launch(request())
    assert read_identity(fleet.root / NAME / PROCESS_FILE) == agent

    psutil.Process(agent.pid).kill()
    wait_until(lambda: state(fleet) is InstanceState.GONE, "its death is seen")
    fleet.terminate(NAME)
    assert marked_processes(str(fleet.root / NAME)) == []


def test_of_two_agents_of_one_name_one_goes_away(fleet: LocalFleet, store: LocalStore) -> None:
    """Two daemons, each sure that it leads, may both start one."""
    directory = fleet.root / NAME
    command = [sys.executable, "-m", "orchestrator.cli.main", "--store", store.url, "agent", "--instance", NAME]
    command += ["--job", "digits", "--workers", "1", "--cores", "1", "--gpus", "", "--work-dir", str(directory)]
    command += ["--idle-exit", "60s"]
    environ = {**os.environ, MARKER: str(directory)}
    agents = [subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) for _ in range(2)]
    wait_until(lambda: sum(agent.poll() is not None for agent in agents) == 1, "one has gone")
    gone, stays = sorted(agents, key=lambda agent: agent.poll() is None)
    assert gone.returncode == 0
    assert stays.poll() is None
    identity = read_identity(directory / PROCESS_FILE)
    assert identity is not None
    assert identity.pid == stays.pid
    fleet.terminate(NAME)
    stays.wait(10)


# --- what the work directories say ------------------------------------------------------------------------------------


def test_a_pid_that_names_another_process_by_now_is_not_the_agent(fleet: LocalFleet) -> None:
    directory = pretend(fleet, NAME, "digits")
    assert state(fleet) is InstanceState.RUNNING
    me = this_process(NAME)
    write_identity(directory / PROCESS_FILE, replace(me, started=me.started - 1))
    assert state(fleet) is InstanceState.GONE


def test_an_agent_of_before_the_machine_was_started_again_is_gone(fleet: LocalFleet) -> None:
    directory = pretend(fleet, NAME, "digits")
    machine, _boot, namespace = this_process("").host.split(":")
    write_identity(directory / PROCESS_FILE, replace(this_process(NAME), host=f"{machine}:another-boot:{namespace}"))
    assert state(fleet) is InstanceState.GONE


def ordered_long_ago(fleet: LocalFleet) -> Path:
    """An instance of which there is only the order."""
    directory = pretend(fleet, NAME, "digits")
    (directory / PROCESS_FILE).unlink()
    assert state(fleet) is InstanceState.STARTING
    long_ago = time.time() - START_GRACE_S - 1
    os.utime(directory / REQUEST_FILE, (long_ago, long_ago))
    return directory


def test_an_instance_whose_launch_was_broken_off_is_gone_after_a_moment(fleet: LocalFleet) -> None:
    """The daemon died between writing the order and starting the process."""
    ordered_long_ago(fleet)
    assert state(fleet) is InstanceState.GONE


def test_an_agent_that_takes_long_to_start_is_waited_for(fleet: LocalFleet) -> None:
    directory = ordered_long_ago(fleet)
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(slow, env={**os.environ, MARKER: str(directory)})
    wait_until(lambda: state(fleet) is InstanceState.STARTING, "its process is seen")
    process.kill()
    process.wait(10)
    assert state(fleet) is InstanceState.GONE


def test_what_was_never_launched_is_not_known(fleet: LocalFleet) -> None:
    assert fleet.describe([NAME, "digits-g2-n0-a0"]) == {}
    (fleet.root / NAME).mkdir()
    assert fleet.describe([NAME]) == {}
    fleet.terminate("digits-g2-n0-a0")


def test_what_is_ended_frees_its_disk_and_keeps_its_log(fleet: LocalFleet) -> None:
    directory = pretend(fleet, NAME, "digits")
    (directory / PROCESS_FILE).unlink()
    (directory / "run-g000001" / "checkpoints").mkdir(parents=True)
    (directory / "agent.log").write_text("a last word\n")
    fleet.terminate(NAME)
    assert not (directory / "run-g000001").exists()
    assert (directory / "agent.log").read_text() == "a last word\n"


def test_old_work_directories_are_swept_and_those_in_use_are_not(fleet: LocalFleet) -> None:
    old, young, used = (f"digits-g{number}-n0-a0" for number in (1, 2, 3))
    for name in (old, young, used):
        directory = pretend(fleet, name, "digits")
        if name != used:
            write_identity(directory / PROCESS_FILE, replace(this_process(name), started=0.5))
    long_ago = time.time() - SWEEP_AFTER_S - 1
    for name in (old, used):
        os.utime(fleet.root / name, (long_ago, long_ago))
    fleet.sweep()
    assert sorted(path.name for path in fleet.root.iterdir()) == [young, used]


def test_the_work_directory_of_an_agent_on_another_machine_is_kept_while_anything_in_it_changes(
    fleet: LocalFleet,
) -> None:
    """Two machines may share a home."""
    busy, silent = (f"digits-g{number}-n0-a0" for number in (1, 2))
    long_ago = time.time() - SWEEP_AFTER_S - 1
    for name in (busy, silent):
        directory = pretend(fleet, name, "digits")
        write_identity(directory / PROCESS_FILE, replace(this_process(name), host="other:boot:1"))
        (directory / "run-g000001").mkdir()
        for path in [*directory.rglob("*"), directory]:
            os.utime(path, (long_ago, long_ago))
    os.utime(fleet.root / busy / "run-g000001", None)
    fleet.sweep()
    assert [path.name for path in fleet.root.iterdir()] == [busy]


def test_what_another_sweeps_at_the_same_time_is_passed_over(
    fleet: LocalFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = time.time() - SWEEP_AFTER_S - 1
    for number in (1, 2):
        directory = pretend(fleet, f"digits-g{number}-n0-a0", "digits")
        (directory / PROCESS_FILE).unlink()
        os.utime(directory / REQUEST_FILE, (long_ago, long_ago))
        os.utime(directory, (long_ago, long_ago))
    found = sorted(fleet.root.iterdir())

    def found_before(_self: Path) -> Iterator[Path]:
        shutil.rmtree(found[0])
        return iter(found)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", found_before)
        fleet.sweep()
    assert not list(fleet.root.iterdir())


def test_an_agent_that_ends_as_it_is_asked_to_has_ended(fleet: LocalFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = pretend(fleet, NAME, "digits")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    write_identity(directory / PROCESS_FILE, replace(this_process(NAME), pid=child.pid))
    monkeypatch.setattr(local, "is_alive", lambda _agent: True)
    fleet.drain(NAME)


# --- room -------------------------------------------------------------------------------------------------------------


def test_more_than_the_machine_has_is_refused_for_ever(fleet: LocalFleet) -> None:
    with pytest.raises(LaunchError, match="6 CPU cores are wanted and this machine has 4") as refused:
        fleet.launch(request(workers=3, cores_per_worker=2))
    assert refused.value.kind == "fatal"
    assert fleet.describe([NAME]) == {}


def test_what_another_job_holds_is_refused_for_now(fleet: LocalFleet) -> None:
    directory = pretend(fleet, "other-g1-n0-a0", "other", cores=3)
    with pytest.raises(LaunchError, match=r"2 CPU cores are wanted and 1 of 4 are free \(in use by other\)") as refused:
        fleet.launch(request(workers=2))
    assert refused.value.kind == "capacity"
    assert fleet.describe([NAME]) == {}
    write_identity(directory / PROCESS_FILE, replace(this_process("other"), started=0.5))  # it has ended
    fleet._place(request(workers=4))


def test_a_job_moves_within_its_own_room(fleet: LocalFleet) -> None:
    """Make before break: for a moment its old and its new size are both there."""
    pretend(fleet, "digits-g1-n0-a0", "digits", cores=4)
    fleet._place(request("digits-g2-n0-a0", workers=4))
    pretend(fleet, "digits-g2-n0-a0", "digits", cores=4)
    with pytest.raises(LaunchError, match="0 of 4 are free"):
        fleet.launch(request("other-g1-n0-a0", job="other"))


def test_gpus_are_given_to_one_job_each(tmp_path: Path, store: LocalStore) -> None:
    fleet = new_fleet(tmp_path, store, Machine(cores=2, gpus=(0, 1, 2, 3)))
    pretend(fleet, "other-g1-n0-a0", "other", gpus=(0, 2))
    assert fleet._place(request(workers=2)) == [1, 3]
    assert fleet._place(request(workers=1, cores_per_worker=64)) == [1], "cores do not count where there are GPUs"
    with pytest.raises(LaunchError, match="3 GPUs are wanted and 2 of 4 are free"):
        fleet._place(request(workers=3))


def test_instances_of_one_generation_share_nothing(tmp_path: Path, store: LocalStore) -> None:
    gpus = new_fleet(tmp_path, store, Machine(cores=2, gpus=(0, 1)))
    pretend(gpus, "digits-g1-n0-a0", "digits", gpus=(0,))
    assert gpus._place(request("digits-g1-n1-a0")) == [1]
    cores = new_fleet(tmp_path, store, Machine(cores=2))
    pretend(cores, "digits-g3-n0-a0", "digits", cores=2)
    with pytest.raises(LaunchError, match="0 of 2 are free"):
        cores._place(request("digits-g3-n1-a0"))


def at_once(*calls: Callable[[], object]) -> list[BaseException]:
    """Many threads begin together, switched as often as can be; what they raise."""
    gate = Barrier(len(calls))
    raised: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        gate.wait()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a thread would die of is looked at
            raised.append(error)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    return raised


def test_jobs_that_are_launched_at_the_same_time_are_given_a_gpu_each(tmp_path: Path, store: LocalStore) -> None:
    class Slow(LocalFleet):
        """Between finding room and taking it, all the others find theirs."""

        def _place(self, request: LaunchRequest) -> list[int]:
            found = super()._place(request)
            time.sleep(0.02)
            return found

    fleet = Slow(store.url, new_fleet(tmp_path, store).root, Machine(cores=2, gpus=(0, 1)), os.environ)
    names = [f"job{n}-g1-n0-a0" for n in range(12)]
    try:
        refused = at_once(*(partial(fleet.launch, request(name, name[:-9])) for name in names))
        assert [type(error) for error in refused] == [LaunchError] * 10
        orders = [json.loads(path.read_text()) for path in fleet.root.glob(f"*/{REQUEST_FILE}")]
        assert sorted(order["gpus"] for order in orders) == [[0], [1]]
    finally:
        for name in names:
            fleet.terminate(name)


def test_many_threads_may_find_that_the_same_agents_have_ended(fleet: LocalFleet) -> None:
    for _ in range(10):
        for n in range(4):
            fleet._children[f"i{n}"] = ended = subprocess.Popen(["true"])
            os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert at_once(*[partial(fleet.describe, [])] * 8) == []
        assert fleet._children == {}


def test_a_machine_that_cannot_start_another_process_says_so_and_can_be_asked_again(
    fleet: LocalFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(LaunchError, match="cannot be started here") as refused:
        fleet.launch(request())
    assert refused.value.kind == "capacity"
    assert state(fleet) is None


def test_a_place_that_cannot_be_written_to_is_met_by_the_first_launch_and_not_by_the_controller(
    tmp_path: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    fleet = open_local_fleet(store, os.environ, random_nonce)
    assert (list(fleet.describe([NAME])), fleet.is_clear(NAME)) == ([], True)
    fleet.terminate(NAME)
    with pytest.raises(LaunchError, match="set XDG_STATE_HOME of the controller to a directory that can be written"):
        fleet.launch(request())


def test_ones_own_machine_costs_nothing(fleet: LocalFleet) -> None:
    assert fleet.offers(Resources(), "local") == (Offer("local", "", "on_demand", 0.0),)
