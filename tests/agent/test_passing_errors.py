"""What the machine does not have for a moment ends no agent: open files, processes, threads, ports. It tries again."""

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.agent.background import Threads
from orchestrator.agent.exits import failure_of_ranks, last_line
from orchestrator.agent.launcher import TorchrunWorkers, kill_marked
from orchestrator.agent.run_directory import ProgressReader, RunDirectory
from orchestrator.agent.sampling import CpuSampler
from orchestrator.jobs.instances import TrainerExit
from tests.agent.virtual_machine import VirtualMachine
from tests.support.waiting import wait_until


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """By this process; those that are open stay so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- what is looked at in a turn --------------------------------------------------------------------------------------


def test_progress_lines_that_cannot_be_read_now_are_read_later(run: RunDirectory) -> None:
    reader = ProgressReader(run.progress)
    run.progress.write_text('{"step": 1}\n')
    assert list(reader.lines()) == [{"step": 1}]
    with open(run.progress, "a") as log:
        log.write('{"step": 2}\n')
    with no_file_can_be_opened():
        assert list(reader.lines()) == []
    assert list(reader.lines()) == [{"step": 2}]


def test_what_a_rank_said_last_is_left_out_where_it_cannot_be_read(run: RunDirectory) -> None:
    log = run.logs / "g1" / "attempt_0" / "0" / "stderr.log"
    log.parent.mkdir(parents=True)
    log.write_text("out of memory\n")
    with no_file_can_be_opened():
        said = last_line([log])
        failure = failure_of_ranks({0: 1}, run, first_rank=0, code=1, step=None)
    assert said == ""
    assert failure is not None
    assert failure.message == "rank 0 exited with 1"
    assert last_line([log]) == "out of memory"


def test_how_ranks_ended_is_told_by_their_launcher_where_nothing_can_be_read(run: RunDirectory, tmp_path: Path) -> None:
    (run.path / "exit.json").write_text(json.dumps({"exit_codes": {"0": 3}}))
    workers = object.__new__(TorchrunWorkers)
    workers.log_path, workers._run, workers._first_rank = tmp_path / "launcher.log", run, 0
    with no_file_can_be_opened():
        ended = workers._failure(1, 7)
    assert (ended.outcome, ended.message) == ("failed", "the launcher exited with 1: ")
    assert workers._failure(1, 7).message == "rank 0 exited with 3"


def test_processes_that_cannot_be_seen_may_be_there() -> None:
    with no_file_can_be_opened():
        assert kill_marked("of no process", "ELASTIC_LAUNCHER")
    assert not kill_marked("of no process", "ELASTIC_LAUNCHER")


def test_ranks_that_cannot_be_seen_now_are_asked_to_drain_later() -> None:
    script = "import subprocess, sys; sys.exit(subprocess.call(['sleep', '60']) == -15)"
    with subprocess.Popen([sys.executable, "-c", script]) as launcher:
        workers = object.__new__(TorchrunWorkers)
        workers._process, workers._asked = launcher, set()
        wait_until(workers._ranks, "its rank is there", 20)
        with no_file_can_be_opened():
            workers.ask_to_drain()
        assert workers._asked == set()
        workers.ask_to_drain()
        assert launcher.wait(10) == 1


def test_how_busy_they_are_is_unknown_meanwhile() -> None:
    now_s = 0.0
    sampler = CpuSampler(lambda: [os.getpid()], 1, lambda: now_s)
    sampler.sample()
    with no_file_can_be_opened():
        now_s = 1.0
        assert sampler.sample() is None
    now_s = 2.0
    assert sampler.sample() is not None


# --- what is begun in a turn ------------------------------------------------------------------------------------------


def nothing_to_be_had() -> object:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def failed(machine: VirtualMachine) -> None:
    machine.exits_with = TrainerExit(outcome="failed", code=1, message="out of luck")
    machine.live(5)
    machine.exits_with = None


@pytest.mark.parametrize("what", ["launcher", "free_port"])
def test_how_a_generation_ended_is_told_though_the_next_cannot_be_prepared(training: VirtualMachine, what: str) -> None:
    setattr(training, what, nothing_to_be_had)
    failed(training)
    training.live(15)
    assert training.beat.exit is not None
    assert (training.beat.state, training.beat.exit.message) == ("stopped", "out of luck")
    complaint = "the next generation cannot be prepared yet, trying again: [Errno 11] Resource temporarily unavailable"
    assert complaint in training.log
    delattr(training, what)
    training.free_port = lambda: 29501  # type: ignore[method-assign]
    training.live(30)
    assert (len(training.launchers), training.beat.port) == (2, 29501)
    training.live(30)
    assert len(training.launchers) == 2, "one is enough"


def test_a_generation_that_cannot_be_begun_is_begun_later(training: VirtualMachine) -> None:
    training.assign("drain")
    training.live(10)
    training.launcher = nothing_to_be_had  # type: ignore[method-assign, assignment]
    training.assign(generation=2)
    training.live(30)
    assert training.beat.generation == 1
    assert any(line.startswith("generation 2 cannot be begun yet, trying again: [Errno 11]") for line in training.log)
    del training.launcher
    training.live(30)
    assert (training.beat.generation, training.beat.state) == (2, "running")
    assert len(training.launchers) == 2


def test_a_launcher_is_kept_until_there_is_a_thread_for_what_it_waits_for(machine: VirtualMachine) -> None:
    machine.start = lambda *_, **__: nothing_to_be_had()  # type: ignore[method-assign, assignment]
    machine.assign()
    machine.live(20)
    assert machine.beat.state == "ready"
    del machine.start
    machine.live(20)
    assert (machine.beat.state, len(machine.launchers)) == ("running", 1)


@pytest.mark.parametrize("name", ["committer", "log-shipper"])
def test_workers_that_nothing_can_be_begun_for_have_failed(machine: VirtualMachine, name: str) -> None:
    """Ranks were told to start already: the next generation has them anew."""
    start = machine.start

    def starts(work: Callable[[], float | None], called: str, *, nice: bool = False) -> object:
        return nothing_to_be_had() if called == name else start(work, called, nice=nice)

    machine.start = starts  # type: ignore[method-assign, assignment]
    machine.assign()
    machine.live(20)
    assert machine.beat.exit is not None
    assert machine.beat.exit.outcome == "failed"
    assert machine.beat.exit.message.startswith("the workers could not be started: [Errno 11]")
    assert machine.launchers[0].killed
    del machine.start
    machine.assign(generation=2)
    machine.live(100)
    assert (machine.beat.state, machine.committed) == ("running", 60)


def test_a_thread_that_cannot_be_had_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", no_more)
        with pytest.raises(OSError, match="no thread for restore"):
            Threads().start(lambda: None, "restore")
    task = Threads().start(lambda: None, "restore")
    wait_until(lambda: task.done, "it is done", 10)
