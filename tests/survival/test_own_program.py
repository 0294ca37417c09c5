"""A program of one's own, killed, drained and resized; and programs that do not keep the contract, told so."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from tests.survival.own_job import EXAMPLE, own_job, path_with_this_python, script_job, write
from tests.survival.system import JOB, System, elastic, kill_all, processes_of_instances

REPORT = 'echo \'{"step": 3, "total_steps": 5}\' >> "$ELASTIC_RUN_DIR/progress.jsonl"\n'
KEEP = 'cd "$ELASTIC_RUN_DIR/checkpoints"; mkdir .p; echo x > .p/state; mv .p step-000000000005\n'


def ranks(system: System) -> list[psutil.Process]:
    """The processes that the example runs in."""
    found = []
    for process in processes_of_instances(system.state):
        try:
            if process.cmdline()[1:2] == [str(EXAMPLE / "train.py")]:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def submit(system: System, job: dict[str, object]) -> None:
    system.run("submit", str(write(system.root / "job.yaml", job)), "--no-daemon")


def wait_for_checkpoint(system: System, after: int = 0) -> int:
    system.wait(lambda: system.step > 0 and system.committed_step > after, "a new checkpoint and a report")
    return system.committed_step


@pytest.mark.timeout(600)
def test_killed_drained_and_resized_it_goes_on_from_its_last_checkpoint(system: System) -> None:
    submit(system, own_job())
    committed = wait_for_checkpoint(system)
    (rank,) = ranks(system)
    rank.send_signal(signal.SIGKILL)
    system.wait(lambda: system.trains(2), "the second generation trains")
    (failed,) = system.events(EventKind.WORKER_FAILED)
    assert "rank 0 was killed by SIGKILL" in failed.message
    assert system.record.generation is not None
    assert system.record.generation.resume_step >= committed
    lost = system.record.lost_steps

    committed = wait_for_checkpoint(system, after=committed)
    system.run("resize", JOB, "--workers", "2", "--no-daemon")
    system.wait(lambda: system.trains(3) and system.step > committed, "the third generation trains")
    assert len(ranks(system)) == 2, system.story()
    assert system.record.generation.resume_step >= committed
    assert system.record.lost_steps == lost, system.story()
    assert {rank.environ()["WORLD_SIZE"] for rank in ranks(system)} == {"2"}

    system.run("pause", JOB, "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    assert system.record.lost_steps == lost, system.story()
    assert system.head.step >= committed
    system.wait_until_quiet()


@pytest.mark.timeout(600)
def test_the_example_runs_as_its_page_says(tmp_path: Path) -> None:
    system = System.at(tmp_path, seed=0)
    environ = {**system.environ, "PATH": path_with_this_python()}
    few = ["--set", "config.steps=300", "--set", "scaling.max=1"]
    try:
        done = elastic("submit", str(EXAMPLE / "job.yaml"), "--follow", *few, environ=environ)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Submitted bring-your-own: python train.py, 1 worker." in done.stderr
        assert "steps   300 of 300, 0 lost" in done.stdout
        assert "checkpoint of step 300" in done.stdout
        assert "accuracy" in done.stdout
        fetched = elastic("fetch", "bring-your-own", str(tmp_path / "out"), "-o", "json", environ=environ)
        assert fetched.returncode == 0, fetched.stderr
        told = json.loads(fetched.stdout)
        assert (told["step"], told["final"]) == (300, True)
        assert sorted(told["files"]) == ["checkpoint/state.pt", "config.yaml", "progress.jsonl"]
        assert (tmp_path / "out" / "checkpoint" / "state.pt").stat().st_size == told["files"]["checkpoint/state.pt"]
        shown = elastic("show", "bring-your-own", environ=environ)
        assert "command     python train.py" in shown.stdout
    finally:
        kill_all([*system.instance_processes(), *daemons(system)])


def daemons(system: System) -> list[psutil.Process]:
    """The controllers that `submit` has started for this test's store."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ELASTIC_STORE") == system.store.url and "daemon" in process.cmdline():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def ends(system: System, phase: JobPhase) -> str:
    """The reason that the job ends with."""
    system.wait(lambda: system.record.phase.over, "the job is over")
    assert system.record.phase is phase, system.story()
    return system.record.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("true\n", "the program ended with 0 and has left no checkpoint, so there is no result"),
        ("echo 'no such option' >&2; exit 2\n", "rank 0 exited with 2: no such option"),
        (f"{REPORT}echo 'worse each time' >&2; exit 4\n", "rank 0 exited with 4: worse each time"),
        (
            f"{REPORT}cd $ELASTIC_RUN_DIR/checkpoints; mkdir .p; echo > '.p/a b'; mv .p step-000000000003; sleep 60\n",
            "the checkpoint of step 3 holds a file 'a b', which cannot be kept under this name",
        ),
        (
            f"{REPORT}cd $ELASTIC_RUN_DIR/checkpoints; mkdir .p; ln -s / .p/x; mv .p step-000000000003; sleep 60\n",
            "step-000000000003 holds x, which is neither a file nor a directory",
        ),
        (f"{REPORT}mkdir $ELASTIC_RUN_DIR/checkpoints/step-000000000003; sleep 60\n", "step-000000000003 is empty"),
    ],
)
def test_what_would_end_so_again_fails_at_once_and_says_why(
    system: System, tmp_path: Path, script: str, reason: str
) -> None:
    submit(system, script_job(tmp_path, script))
    assert reason in ends(system, JobPhase.FAILED)
    assert system.record.last_generation == 1, system.story()


def test_one_that_reports_nothing_is_told_what_is_missing(system: System, tmp_path: Path) -> None:
    script = "echo 'step 1' >> $ELASTIC_RUN_DIR/progress.jsonl; exec sleep 600\n"
    submit(system, script_job(tmp_path, script, limits={"stall": "6s", "max_failures": 0}))
    reason = ends(system, JobPhase.FAILED)
    assert "no new step for" in reason
    assert "the program runs and has written no line with a step into progress.jsonl yet" in reason
    notes = [event.message for event in system.events(EventKind.NOTE)]
    assert "a line of progress.jsonl is no JSON object and is passed over: step 1" in " ".join(notes)


def test_lines_without_a_step_are_told_once(system: System, tmp_path: Path) -> None:
    line = 'echo \'{"epoch": 1}\' >> "$ELASTIC_RUN_DIR/progress.jsonl"\n'
    submit(system, script_job(tmp_path, f"{line}{line}{REPORT}{KEEP}"))
    ends(system, JobPhase.SUCCEEDED)
    notes = [event.message for event in system.events(EventKind.NOTE)]
    assert [note for note in notes if "no step" in note] == [
        'a line of progress.jsonl has no step that is a whole number: {"epoch": 1}'
    ]


def test_a_zero_after_sigterm_is_no_end_unless_it_says_it_is_done(system: System, tmp_path: Path) -> None:
    """It goes on in a second generation, where it finds what it has left, and ends there."""
    script = (
        f'test -d "$ELASTIC_RUN_DIR/resume" && test "$(cat $ELASTIC_RUN_DIR/resume/state)" = x && exit 0\n'
        f"trap 'exit 0' TERM\n{REPORT}{KEEP}while :; do sleep 0.05; done\n"
    )
    submit(system, script_job(tmp_path, script))
    system.wait(lambda: system.committed_step == 5, "its checkpoint is kept")
    system.run("pause", JOB, "--no-daemon")
    system.wait_for_phase(JobPhase.PAUSED)
    system.run("resume", JOB, "--no-daemon")
    ends(system, JobPhase.SUCCEEDED)
    assert system.record.last_generation == 2, system.story()
