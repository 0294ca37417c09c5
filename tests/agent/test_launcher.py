"""The launcher: real torchrun processes with a trainer of a few lines below them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.agent.launcher import TRAINER, Program, TorchrunWorkers, worker_environment
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.jobs.instances import Assignment, TrainerExit
from tests.support.waiting import wait_until

FAKE_TRAINER = Program(("-u", str(Path(__file__).with_name("fake_trainer.py")), "{config}", "{run_dir}"))
FORKED = Program(("{config}", "{run_dir}"), package="tests.agent.fake_package")
"""The same, by ranks that are forked from the launcher, as those of elastic's own trainer are."""
FORKED_NAME = "tests.agent.fak"
"""As the kernel cuts it."""
FOR_EVER = {"steps": 10**9}


class Launched:
    """Workers with their run directory."""

    def __init__(self, root: Path, environ: Mapping[str, str], program: Program) -> None:
        self.run = RunDirectory(root / "run")
        self.workers = TorchrunWorkers(root / "launcher.log", {**os.environ, **environ}, program)

    def start(self, config: Mapping[str, Any], *, ranks: int = 1, gpus: tuple[int, ...] = (), **more: Any) -> None:
        self.run.prepare(config)
        assignment = Assignment(
            epoch=1, job="digits", generation=1, action="run", workers=ranks, training=dict(config), **more
        )
        self.workers.start(self.run, assignment, own_address="127.0.0.1", gpus=gpus)

    def wait(self, while_waiting: Callable[[], None] = lambda: None) -> TrainerExit:
        ended: list[TrainerExit] = []

        def is_over() -> bool:
            while_waiting()
            ended.extend(filter(None, [self.workers.poll(step=None)]))
            return bool(ended)

        wait_until(is_over, "the workers have ended", 60)
        return ended[0]

    def wait_for_steps(self) -> None:
        wait_until(self.run.progress.exists, "the first step", 60)

    def ranks(self) -> list[psutil.Process]:
        return psutil.Process(self.workers.pid).children() if self.workers.pid else []

    def environ(self, rank: int) -> dict[str, str]:
        seen: dict[str, str] = json.loads((self.run.path / f"environ-{rank}.json").read_text())
        return seen


@pytest.fixture(params=[FAKE_TRAINER, FORKED], ids=["started", "forked"])
def launch(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def launch(environ: Mapping[str, str] | None = None) -> Launched:
        started.append(Launched(tmp_path, environ or {}, request.param))
        return started[-1]

    yield launch
    for launched in started:
        launched.workers.kill()
        wait_until(launched.workers.gone, "nothing is left", 20)


Launch = Callable[..., Launched]


def test_finished_is_0(launch: Launch) -> None:
    launched = launch()
    launched.start({"steps": 3}, ranks=2)
    ended = launched.wait()
    assert (ended.outcome, ended.code) == ("finished", 0)
    (checkpoint,) = launched.run.whole_checkpoints()
    assert (checkpoint.step, checkpoint.final) == (3, True)
    said = [log.path.read_text() for rank in (0, 1) for log in launched.run.rank_logs(rank) if log.name == "stdout.log"]
    assert said == ["rank 0 from step 0\n", "rank 1 from step 0\n"]
    worlds = [(launched.environ(rank)["RANK"], launched.environ(rank)["WORLD_SIZE"]) for rank in (0, 1)]
    assert worlds == [("0", "2"), ("1", "2")]


def test_drained_is_75_and_leaves_a_checkpoint(launch: Launch) -> None:
    launched = launch()
    launched.start(FOR_EVER, ranks=2)
    launched.wait_for_steps()
    wait_until((launched.run.path / "environ-1.json").exists, "both ranks are there", 60)
    launched.workers.ask_to_drain()
    ended = launched.wait(launched.workers.ask_to_drain)
    assert (ended.outcome, ended.code) == ("drained", 75)
    assert launched.run.whole_checkpoints()[-1].step >= 1


def test_asked_to_drain_before_there_are_ranks_they_hear_it_when_they_come(launch: Launch) -> None:
    launched = launch({"FAKE_TRAINER_IMPORTS_S": "0.3"})
    launched.start(FOR_EVER)
    assert launched.ranks() == []
    began_s = time.monotonic()

    def ask() -> None:
        launched.workers.ask_to_drain(again=time.monotonic() - began_s > 10)

    ended = launched.wait(ask)
    assert ended.outcome in ("drained", "failed"), "a rank that has no ears yet just dies"


def test_a_failure_is_told_with_the_rank_its_code_and_its_last_word(launch: Launch) -> None:
    launched = launch()
    launched.start({"steps": 50, "fail_at": 2})
    ended = launched.wait()
    assert (ended.outcome, ended.code) == ("failed", 1)
    assert ended.message == "rank 0 exited with 3: out of luck"


def test_a_fault_of_the_program_is_told_with_a_traceback_in_the_log_of_its_rank(launch: Launch) -> None:
    launched = launch()
    launched.start({"steps": 50, "breaks": True})
    ended = launched.wait()
    assert (ended.outcome, ended.code) == ("failed", 1)
    assert ended.message == "rank 0 exited with 1: ArithmeticError: two and two are five"
    (said,) = [log.path.read_text() for log in launched.run.rank_logs(0) if log.name == "stderr.log"]
    assert "Traceback (most recent call last):" in said
    assert "in main" in said


@pytest.mark.parametrize("code", [2, 4])
def test_what_a_rank_refuses_to_do_is_told_as_a_refusal(launch: Launch, code: int) -> None:
    launched = launch()
    launched.start({"steps": 50, "fail_at": 2, "fail_code": code}, ranks=2)
    ended = launched.wait()
    assert (ended.outcome, ended.code) == ("refused", code)
    assert ended.message in (f"rank {rank} exited with {code}: out of luck" for rank in (0, 1)), "whichever was first"


def test_of_several_ranks_the_one_that_failed_by_itself_is_told(launch: Launch) -> None:
    launched = launch()
    launched.start(FOR_EVER, ranks=2)
    wait_until(lambda: len(launched.ranks()) == 2, "both ranks are there", 60)
    launched.wait_for_steps()
    wait_until((launched.run.path / "environ-1.json").exists, "both ranks have begun", 60)
    os.kill(int(launched.environ(1)["OWN_PID"]), signal.SIGKILL)
    ended = launched.wait()
    assert ended.outcome == "failed"
    assert ended.message.startswith("rank 1 was killed by SIGKILL")


def test_kill_leaves_nothing_not_even_what_the_ranks_have_started(launch: Launch) -> None:
    launched = launch()
    launched.start({**FOR_EVER, "child": True}, ranks=2)
    children = [launched.run.path / f"child-{rank}" for rank in (0, 1)]
    wait_until(lambda: all(path.exists() and path.read_text() for path in children), "both have a child", 60)
    below = psutil.Process(launched.workers.pid).children(recursive=True)
    assert {process.pid for process in below} >= {int(path.read_text()) for path in children}
    launched.workers.kill()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert launched.workers.pid is None


def test_a_rank_drains_and_what_it_has_started_is_left_to_it(launch: Launch) -> None:
    """SIGTERM to a trainer's own data loaders would fail it in the middle of its last step."""
    launched = launch()
    launched.start({**FOR_EVER, "child": True})
    launched.wait_for_steps()
    child = psutil.Process(int((launched.run.path / "child-0").read_text()))
    ended = launched.wait(launched.workers.ask_to_drain)
    assert ended.outcome == "drained"
    assert child.is_running()
    launched.workers.kill()
    wait_until(lambda: not child.is_running(), "what it has left behind is ended then", 10)


def test_ranks_that_outlive_their_launcher_are_ended(launch: Launch) -> None:
    launched = launch()
    launched.start(FOR_EVER, ranks=2)
    wait_until(lambda: len(launched.ranks()) == 2, "both ranks are there", 60)
    ranks = launched.ranks()
    assert launched.workers.pid is not None
    os.kill(launched.workers.pid, signal.SIGKILL)
    assert launched.wait().outcome == "failed"
    launched.workers.kill()
    _, alive = psutil.wait_procs(ranks, timeout=10)
    assert alive == []


def test_a_launcher_that_has_died_before_its_work_is_a_failure(launch: Launch) -> None:
    launched = launch()
    assert launched.workers.pid is not None
    os.kill(launched.workers.pid, signal.SIGKILL)
    wait_until(lambda: launched.workers.pid is None, "it is dead", 10)
    launched.start({"steps": 3})
    ended = launched.wait()
    assert ended.outcome == "failed"
    assert "the launcher was killed by SIGKILL" in ended.message


def test_who_is_not_the_last_to_finish_does_not_hold_up_the_failure_of_another(launch: Launch) -> None:
    """A forked rank that has finished waits for the others, and it has learnt from its program to outlive SIGTERM."""
    launched = launch()
    launched.start({"steps": 5, "laggard": 1}, ranks=2)
    wait_until(lambda: bool(launched.run.whole_checkpoints()), "the first has finished", 60)
    (launched.run.path / "go").touch()
    began_s = time.monotonic()
    ended = launched.wait()
    assert ended.message == "rank 1 exited with 3: out of luck"
    assert time.monotonic() - began_s < 20, "and not after the half minute that torch gives a rank"


def test_a_rank_belongs_to_no_terminal_of_its_launcher(launch: Launch) -> None:
    launched = launch()
    launched.start({**FOR_EVER, "talks": True})
    launched.wait_for_steps()
    (rank,) = launched.ranks()
    assert os.getsid(rank.pid) == rank.pid
    (said,) = [log for log in launched.run.rank_logs(0) if log.name == "stdout.log"]
    wait_until(lambda: said.path.read_text().count("step") > 10, "what it prints is there at once", 60)


def test_a_rank_is_forked_from_what_has_warmed_up(launch: Launch, request: pytest.FixtureRequest) -> None:
    launched = launch()
    launched.start(FOR_EVER, ranks=2)
    for rank in (0, 1):
        wait_until((launched.run.path / f"environ-{rank}.json").exists, "it is there", 60)
    is_forked = "forked" in request.node.callspec.id
    warmed_up = {launched.environ(rank).get("WARMED_UP_BY") for rank in (0, 1)}
    assert warmed_up == {str(launched.workers.pid) if is_forked else None}
    assert {rank.name() == FORKED_NAME for rank in launched.ranks()} == {is_forked}


@pytest.mark.parametrize("given", [{"gpus": (0,)}, {"env": {"PYTHONPATH": "/mine"}}], ids=["gpus", "variables"])
def test_what_a_fork_could_not_have_is_given_to_a_new_process(launch: Launch, given: Mapping[str, Any]) -> None:
    launched = launch()
    launched.start(FOR_EVER, **given)
    launched.wait_for_steps()
    assert [rank.name() for rank in launched.ranks()] != [FORKED_NAME]


def test_ranks_meet_over_a_file_and_speak_over_the_loopback_alone(launch: Launch) -> None:
    launched = launch()
    launched.start({"steps": 1}, gpus=(2, 0), checkpoint_every_s=7.5, keep_free_bytes=42, env={"TUNING": "on"})
    launched.wait()
    seen = launched.environ(0)
    assert seen["ELASTIC_RENDEZVOUS"].startswith(f"file://{launched.run.path}/")
    assert (seen["GLOO_SOCKET_IFNAME"], seen["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["CUDA_DEVICE_ORDER"]) == ("2,0", "PCI_BUS_ID")
    assert (seen["ELASTIC_CHECKPOINT_EVERY_S"], seen["ELASTIC_KEEP_FREE_BYTES"]) == ("7.5", "42")
    assert (seen["OMP_NUM_THREADS"], seen["TUNING"]) == ("1", "on")


SECRETS = {
    "AWS_ACCESS_KEY_ID": "k", "AWS_PROFILE": "p", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "u", "ELASTIC_STORE": "s",
    "GITHUB_TOKEN": "t", "DB_PASSWORD": "p", "MY_SECRET": "s", "Some_Credential": "c", "S3_ACCESS_KEY": "k",
    "OPENAI_API_KEY": "k", "PGPASSWORD": "p", "MYSQL_PASSWD": "p", "PRIVATE_KEY": "k", "SIGNING_PASSPHRASE": "p",
}  # fmt: skip
HARMLESS = {"PATH": "/usr/bin", "HOME": "/root", "LD_LIBRARY_PATH": "/lib", "ELASTIC_INSTANCE": "digits-g1-n0-a0",
            "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip


def test_workers_inherit_nothing_that_opens_a_door() -> None:
    assert worker_environment({**SECRETS, **HARMLESS}) == HARMLESS


def test_credentials_of_the_agent_do_not_reach_a_rank(launch: Launch) -> None:
    launched = launch({**SECRETS, "HARMLESS": "yes"})
    launched.start({"steps": 1})
    launched.wait()
    seen = launched.environ(0)
    assert not set(SECRETS) & set(seen)
    assert seen["HARMLESS"] == "yes"


def test_the_trainer_is_what_runs_unless_said_otherwise(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a {strange} place")
    assert TRAINER.filled(run) == ["-u", "-m", "trainer", str(run.config), str(run.path)]


def test_a_launcher_whose_log_lies_on_a_full_disk_keeps_its_exit_code() -> None:
    code = "from orchestrator.agent.torchrun import end_at_once; print('the last line'); end_at_once(75)"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, stdout=full, stderr=full, env=buffered, check=False, timeout=60)
    assert ended.returncode == 75
