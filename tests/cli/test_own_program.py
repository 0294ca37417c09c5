"""A job of one's own program in each command: looked up here, described, shown, summed up, fetched."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.own_program import with_program_of_here
from orchestrator.cli.summary import summary, time_spent
from orchestrator.errors import UsageError
from orchestrator.jobs.bucket import load_spec, load_state, submit_job
from orchestrator.jobs.instances import TrainerProgress
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.status import job_status
from orchestrator.reading.next_steps import next_steps
from orchestrator.spec.load import load_job
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import NOW, STARTED, change, finish, nonce, put_checkpoint
from tests.support.forbidden import no_entry

OWN = "name: own\ncommand: [sh, -c, exit]\nconfig: {lr: 0.1}\nresources: {ladder: [{workers: 1}, {workers: 3}]}\n"
FILES = {"state.pt": b"weights", "shards/0.bin": b"zero", "shards/deep/1.bin": b"one"}


@pytest.fixture
def job(store: Store) -> Store:
    submit_job(store, load_job(OWN), STARTED, nonce)
    put_checkpoint(store, "own", FILES, step=400)
    progress = TrainerProgress(
        step=400, total_steps=1000, samples=800, samples_per_second=20.0, loss=0.25, accuracy=0.9
    )
    change(store, "own", phase=JobPhase.RUNNING, started_at=STARTED, progress=progress)
    return store


# --- before it is submitted -------------------------------------------------------------------------------------------


def program_of(command: list[str], base: Path, path: str, working_dir: str | None = None) -> tuple[str, str | None]:
    given = {"name": "own", "command": command} | ({"working_dir": working_dir} if working_dir else {})
    spec = with_program_of_here(load_job(json.dumps(given)), base, {"PATH": path})
    assert spec.command is not None
    return spec.command[0], spec.working_dir


def test_what_python_means_is_settled_where_it_is_submitted(tmp_path: Path) -> None:
    """Also an environment's, which is a link: followed, it would be another environment's."""
    (tmp_path / "venv").mkdir()
    link = tmp_path / "venv" / "python"
    link.symlink_to(sys.executable)
    assert program_of(["python", "x.py"], tmp_path, str(tmp_path / "venv")) == (str(link), str(tmp_path))


def test_a_path_begins_where_the_program_runs(tmp_path: Path) -> None:
    program = tmp_path / "src" / "run"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert program_of(["./run"], tmp_path, "", "src") == (str(program), str(program.parent))


@pytest.mark.parametrize(
    ("command", "working_dir", "message"),
    [
        (["nothing-like-it"], None, "command: there is no program 'nothing-like-it' on the PATH of this shell"),
        (["train.py"], None, "to run a file, write its interpreter before it: [python, train.py]"),
        (["./gone"], None, "gone: there is no such file; a relative path begins where the program runs"),
        (["./plain"], None, "plain: is no program: make it executable (chmod +x)"),
        (["sh"], "nowhere", "nowhere: there is no such directory; a relative one begins at the job file"),
        (["sh"], "plain", "plain: is not a directory"),
    ],
)
def test_what_is_not_here_is_told_before_anything_starts(
    tmp_path: Path, command: list[str], working_dir: str | None, message: str
) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(UsageError) as refused:
        program_of(command, tmp_path, "/usr/bin:/bin", working_dir)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("command", "working_dir", "message"),
    [
        (["sh"], "{}/src", "working_dir: {}/src: this directory cannot be reached (Permission denied); a relative one"),
        (["{}/run"], None, "command: {}/run: this file cannot be reached (Permission denied); a relative path"),
        (["./" + 300 * "n"], None, "this file cannot be reached (File name too long); a relative path"),
        (["sh"], "{}/../loop", "this directory cannot be reached (Too many levels of symbolic links); a relative one"),
        (["sh"], "~nobody-of-here/src", "working_dir: ~nobody-of-here/src names the home directory of ~nobody-of-here"),
        (
            ["~nobody-of-here/run"],
            None,
            "command: ~nobody-of-here/run names the home directory of ~nobody-of-here, whom",
        ),
    ],
)
def test_what_cannot_be_reached_is_told_with_the_reason(
    tmp_path: Path, command: list[str], working_dir: str | None, message: str
) -> None:
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with no_entry(forbidden), pytest.raises(UsageError) as refused:
        program_of([command[0].format(forbidden)], Path("/usr"), "/bin", working_dir and working_dir.format(forbidden))
    assert message.format(forbidden) in str(refused.value)


def test_submit_records_where_program_and_files_are(elastic: Elastic, store: Store, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    outcome = elastic("submit", str(tmp_path / "own.yaml"), "--no-daemon", "--set", "config.lr=0.5")
    assert outcome.code == 0, outcome.err
    assert "Submitted own: sh -c exit, 1 to 3 workers." in outcome.err
    spec = load_spec(store, "own")
    assert spec.command is not None
    assert (os.path.isabs(spec.command[0]), spec.command[1:]) == (True, ("-c", "exit"))
    assert (spec.working_dir, spec.trainer_config) == (str(tmp_path), {"lr": 0.5})


def test_a_mistake_is_shown_with_its_line(elastic: Elastic, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\ncommand: python train.py\n")
    outcome = elastic("validate", str(tmp_path / "own.yaml"))
    assert outcome.code == 2
    assert "own.yaml:2:10: command: must be a list, for no shell reads it: write [python, train.py]" in outcome.err


# --- while it runs and when it is over --------------------------------------------------------------------------------


def test_it_is_shown_with_its_command_and_what_it_reports(job: Store, elastic: Elastic) -> None:
    shown = elastic("show", "own").out
    assert "command      sh -c exit" in shown
    assert "accuracy     90.0 %" in shown
    assert "20.0 samples/s, ETA 1m 00s" in shown  # 2 samples a step, 600 steps to go
    assert json.loads(elastic("show", "own", "-o", "json").out)["metrics"]["accuracy"] == 0.9


def test_it_may_be_resized_to_any_rung(job: Store, elastic: Elastic) -> None:
    assert elastic("resize", "own", "--workers", "3", "--no-daemon").code == 0
    assert "its ladder offers 1, 3" in elastic("resize", "own", "--workers", "2", "--no-daemon").err


def test_the_summary_shows_what_there_is(job: Store) -> None:
    finish(job, "own", JobPhase.SUCCEEDED, "the trainer finished")
    state = load_state(job, "own")
    status = job_status(state, NOW)
    console = Console(width=100, file=io.StringIO())
    with console.capture() as shown:
        console.print(summary(state, status, time_spent(state.record, [], NOW)))
    assert "accuracy 90.0 %   loss 0.250   checkpoint of step 400" in shown.get()
    assert next_steps(status, trained=False)[0] == ("elastic fetch own", "last checkpoint and config into ./own")


def test_fetch_brings_all_files_of_its_last_checkpoint(job: Store, elastic: Elastic, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    outcome = elastic("fetch", "own", str(folder), "-o", "json")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert (told["step"], told["final"], told["model"]) == (400, False, "")
    assert told["files"] == {
        "config.yaml": (folder / "config.yaml").stat().st_size,
        "progress.jsonl": 0,
        "checkpoint/shards/0.bin": 4,
        "checkpoint/shards/deep/1.bin": 3,
        "checkpoint/state.pt": 7,
    }
    assert {name: (folder / "checkpoint" / name).read_bytes() for name in FILES} == FILES
    assert load_job(folder / "config.yaml").command == ("sh", "-c", "exit")
    assert "All files of the checkpoint (not final: as of step 400, its last checkpoint)" in outcome.err
    assert not list(folder.glob(".fetch*"))


def test_fetching_again_leaves_nothing_of_the_checkpoint_before(job: Store, elastic: Elastic, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert elastic("fetch", "own", str(folder)).code == 0
    refused = elastic("fetch", "own", str(folder))
    assert refused.code == 2
    assert "holds checkpoint, config.yaml, progress.jsonl already" in refused.err
    put_checkpoint(job, "own", {"other.pt": b"later"}, step=500)
    finish(job, "own", JobPhase.SUCCEEDED, "the trainer finished")
    outcome = elastic("fetch", "own", str(folder), "--force", "-o", "json")
    assert json.loads(outcome.out)["final"] is True
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["other.pt"]


def test_an_altered_file_is_not_written(job: Store, elastic: Elastic, tmp_path: Path) -> None:
    prefix = put_checkpoint(job, "own", {"a/b.bin": b"sound"}, step=600)
    job.put(f"{prefix}a/b.bin", b"sOund")
    outcome = elastic("fetch", "own", str(tmp_path / "out"))
    assert outcome.code == 1
    assert "is not what was committed (another SHA-256), so nothing was written" in outcome.err
    assert not (tmp_path / "out" / "checkpoint").exists()
