"""A person's own program below a real torchrun: here the shell, which knows nothing of elastic, Python or torch."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.agent.launcher import TRAINER, Program, TorchrunWorkers, rank_environment
from orchestrator.agent.run_directory import RunDirectory
from orchestrator.fleets.processes import is_running
from orchestrator.jobs.instances import AssignedProgram, Assignment, TrainerExit
from tests.support.waiting import wait_until

WAIT = "while :; do sleep 0.05; done"


class Launched:
    """A program's workers with their run directory."""

    def __init__(self, root: Path, *command: str, ranks: int = 1, working_dir: str | None = None) -> None:
        self.run = RunDirectory(root / "run")
        self.workers = TorchrunWorkers(root / "launcher.log", {"PATH": os.environ["PATH"]})
        self.run.prepare({"epochs": 3})
        program = AssignedProgram(command=command, working_dir=working_dir, threads=3)
        assignment = Assignment(epoch=1, job="own", generation=1, action="run", workers=ranks, program=program)
        self.workers.start(self.run, assignment, own_address="127.0.0.1", gpus=())

    def wait(self) -> TrainerExit:
        ended: list[TrainerExit] = []

        def is_over() -> bool:
            ended.extend(filter(None, [self.workers.poll(step=None)]))
            return bool(ended)

        wait_until(is_over, "the program has ended", 120)
        return ended[0]

    def wait_for(self, name: str) -> str:
        path = self.run.path / name
        wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"{name} is there", 120)
        return path.read_text().strip()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    started: list[Launched] = []

    def launch(*command: str, **more: object) -> Launched:
        started.append(Launched(tmp_path, *command, **more))  # type: ignore[arg-type]
        return started[-1]

    yield launch
    for launched in started:
        launched.workers.kill()
        wait_until(launched.workers.gone, "nothing is left", 20)


Launch = Callable[..., Launched]


def test_each_worker_runs_it_where_it_lies_with_torchruns_environment(launch: Launch, tmp_path: Path) -> None:
    home = tmp_path / "where it lies"
    home.mkdir()
    (home / "program.sh").write_text(
        'echo "$(pwd)|$1|$2|$3|$RANK of $WORLD_SIZE|$MASTER_ADDR|$OMP_NUM_THREADS" > "$ELASTIC_RUN_DIR/said-$RANK"\n'
        'test "$ELASTIC_CONFIG" = "$2" && test -n "$MASTER_PORT" && echo "hello from $LOCAL_RANK"\n'
    )
    command = ("sh", "program.sh", "{run_dir}/x", "{config}", '{"lr": 1, "to": "{run_dir}", "as": "$$ ${local_rank}"}')
    launched = launch(*command, ranks=2, working_dir=str(home))
    ended = launched.wait()
    assert (ended.outcome, ended.code) == ("finished", 0)
    run = launched.run
    for rank in (0, 1):
        where, place, config, braces, which, address, threads = launched.wait_for(f"said-{rank}").split("|")
        assert (where, place, config) == (str(home), f"{run.path}/x", str(run.config))
        assert (braces, which) == (f'{{"lr": 1, "to": "{run.path}", "as": "$$ ${{local_rank}}"}}', f"{rank} of 2")
        assert (address, threads) == ("127.0.0.1", "3")
        assert "".join(log.path.read_text() for log in run.rank_logs(rank)) == f"hello from {rank}\n"


def test_asked_to_drain_it_exits_with_75(launch: Launch) -> None:
    launched = launch("sh", "-c", f"trap 'exit 75' TERM; echo > {{run_dir}}/ready-$RANK; {WAIT}", ranks=2)
    launched.wait_for("ready-0")
    launched.wait_for("ready-1")
    launched.workers.ask_to_drain()
    assert launched.wait().outcome == "drained"


@pytest.mark.parametrize(
    ("command", "working_dir", "message"),
    [
        (("no-such-program", "x"), None, "cannot run no-such-program: No such file or directory; see command in"),
        (("sh", "-c", "true"), "/no/such/place", "cannot work in /no/such/place: No such file or directory; see wor"),
        (("python3", "no-such.py"), "/usr", "can't open file '/usr/no-such.py': [Errno 2] No such file or directory"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_sentence(
    launch: Launch, command: tuple[str, ...], working_dir: str | None, message: str
) -> None:
    ended = launch(*command, working_dir=working_dir).wait()
    assert (ended.outcome, ended.code) == ("refused", 2)
    assert ended.message.startswith("rank 0 exited with 2: ")
    assert message in ended.message


def test_it_ends_with_its_launcher_though_nobody_ends_it(launch: Launch) -> None:
    launched = launch("sh", "-c", f"trap '' TERM; echo $$ > {{run_dir}}/pid; {WAIT}")
    rank = psutil.Process(int(launched.wait_for("pid")))
    assert launched.workers.pid is not None
    os.kill(launched.workers.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(rank), "the program has ended")


def test_signals_that_python_ignores_are_not_ignored_by_it(launch: Launch) -> None:
    launched = launch("sh", "-c", "grep SigIgn /proc/self/status > {run_dir}/signals")
    launched.wait()
    ignored = int(launched.wait_for("signals").split()[1], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))


def test_the_trainer_runs_where_no_program_is_given(tmp_path: Path) -> None:
    assignment = Assignment(epoch=1, job="digits", generation=1, action="run", training={"threads": 2})
    assert Program.of(assignment, TRAINER) is TRAINER
    environ = rank_environment(RunDirectory(tmp_path), assignment, "127.0.0.1", ())
    assert environ["OMP_NUM_THREADS"] == "2"
    assert "PYTHONUNBUFFERED" not in environ
