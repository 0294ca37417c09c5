"""The run directory's contract, with real processes: what is where, and what each exit code says."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.trainer.launch import COLD, LONG, TINY, Run, result, runs, start, wait_until

REPORT = {
    "step", "total_steps", "epoch", "samples", "samples_per_second", "loss", "class_loss", "consistency_loss",
    "consistency_weight", "learning_rate", "ema_decay", "student_accuracy", "teacher_accuracy", "data_wait",
    "memory_bytes", "checkpoint_stall_s", "world_size", "head_distance", "loss_scale", "skipped_updates", "time",
}  # fmt: skip

# The trainer itself, but that no step tells it to stop.
NEVER_STOPS = """
from trainer import __main__ as program, step
real = step.TrainStep.run
step.TrainStep.run = lambda self, stop: real(self, False)
program.end_at_once(program.main())
"""


class TestAFinishedRun:
    def test_leaves_one_whole_checkpoint_at_the_last_step(self, undisturbed: Run) -> None:
        (final,) = undisturbed.checkpoints()
        assert final.name == "step-000000000012"
        names = {path.name for path in final.iterdir()}
        weights = {"student.pt", "teacher.pt", "optimizer.pt"}
        assert names == weights | {"meta.json", "result.json", "labelled.json", "trainer-sha256.json"}
        meta = json.loads((final / "meta.json").read_text())
        assert (meta["format"], meta["step"], meta["total_steps"], meta["samples"]) == (2, 12, 12, 12 * 16)
        assert meta["config"]["batch"] == 16
        assert meta["counters"]["updates"] == 12
        assert meta["made_with"]["torch"]

    def test_tells_which_images_kept_their_label(self, undisturbed: Run) -> None:
        labelled = json.loads((undisturbed.checkpoints()[-1] / "labelled.json").read_text())
        assert len(set(labelled["indices"])) == 50
        assert sorted(labelled["classes"]) == sorted(list(range(10)) * 5)

    def test_leaves_nothing_half_written(self, undisturbed: Run) -> None:
        assert not list(undisturbed.run_dir.rglob(".tmp-*"))

    def test_tells_the_result(self, undisturbed: Run) -> None:
        content = result(undisturbed)
        assert content["steps"] == 12
        assert len(content["digest"]) == 64
        for who in ("student", "teacher"):
            confusion = content["confusion"][who]
            right = sum(confusion[k][k] for k in range(10))
            assert sum(map(sum, confusion)) == 360
            assert content[f"{who}_accuracy"] == right / 360
            assert len(content["per_class"][who]) == 10

    def test_reports_the_first_step_every_evaluation_and_the_last(self, undisturbed: Run) -> None:
        reports = undisturbed.reports()
        assert all(report.keys() == REPORT for report in reports)
        steps = [report["step"] for report in reports]
        assert steps[0] == 1
        assert {8, 12} <= set(steps)
        assert steps == sorted(set(steps))

    def test_accuracies_are_null_until_known(self, undisturbed: Run) -> None:
        accuracies = {report["step"]: report["teacher_accuracy"] for report in undisturbed.reports()}
        assert accuracies[1] is None
        assert accuracies[8] is not None
        assert accuracies[12] == result(undisturbed)["teacher_accuracy"]

    def test_the_reported_loss_is_what_was_optimised(self, undisturbed: Run) -> None:
        for report in undisturbed.reports():
            parts = report["class_loss"] + report["consistency_weight"] * report["consistency_loss"]
            assert report["loss"] == pytest.approx(parts)
            assert 0 <= report["data_wait"] <= 1


class TestSigterm:
    def test_finishes_the_step_writes_a_checkpoint_and_exits_75(self, run_dir: Path) -> None:
        with start(run_dir, LONG) as run:
            run.wait_for_step(1)
            run.signal(signal.SIGTERM)
            assert run.wait() == [75]
            (checkpoint,) = run.checkpoints()
            assert json.loads((checkpoint / "meta.json").read_text())["step"] == run.reports()[-1]["step"]
            assert not (checkpoint / "result.json").exists()
            assert run.notes() == []
            assert f"stopped as asked; the same command goes on from {checkpoint}" in run.stderr()

    def test_ctrl_c_does_the_same(self, run_dir: Path) -> None:
        with start(run_dir, LONG) as run:
            run.wait_for_step(1)
            run.signal(signal.SIGINT)
            assert run.wait() == [75]
            assert "Traceback" not in run.stderr()

    def test_of_a_ctrl_c_that_comes_twice_the_second_is_the_same(self, run_dir: Path) -> None:
        with start(run_dir, LONG) as run:
            run.wait_for_step(1)
            for _ in range(2):
                run.signal(signal.SIGINT)
            assert run.wait() == [75]
            assert run.checkpoints()

    def test_another_ctrl_c_ends_it_at_once(self, run_dir: Path) -> None:
        def has_ended() -> bool:
            run.signal(signal.SIGINT)
            return run.processes[0].poll() is not None

        with start(run_dir, LONG, code=NEVER_STOPS) as run:
            run.wait_for_step(1)
            wait_until(has_ended, "its end")
            assert run.wait() == [-signal.SIGINT]

    def test_is_not_lost_when_it_comes_while_torch_is_imported(self, run_dir: Path) -> None:
        with start(run_dir, LONG, command=COLD) as run:
            libraries = Path(f"/proc/{run.processes[0].pid}/maps")
            wait_until(lambda: "libtorch" in libraries.read_text(), "torch to be loading")
            run.signal(signal.SIGTERM)
            assert run.wait() == [75]
            assert [path.name for path in run.checkpoints()] == ["step-000000000001"]

    def test_to_one_rank_stops_all_at_the_same_step(self, run_dir: Path) -> None:
        with start(run_dir, LONG, ranks=2) as run:
            run.wait_for_step(2)
            run.signal(signal.SIGTERM, rank=1)
            assert run.wait() == [75, 75]
            assert len(run.checkpoints()) == 1


class TestAFullDisk:
    def test_fails_the_checkpoint_and_not_the_run(self, run_dir: Path) -> None:
        with start(run_dir, LONG, environ={"ELASTIC_CHECKPOINT_EVERY_S": "0.3"}) as run:
            pid = run.processes[0].pid
            run.wait_for_step(1)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))  # as if the disk were full
            wait_until(lambda: any("checkpoint skipped" in note for note in run.notes()), "a note of it")
            assert not list(run_dir.glob("checkpoints/.tmp-*/optimizer.pt"))
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            run.wait_for_checkpoint()
            run.signal(signal.SIGTERM)
            assert run.wait() == [75]

    def test_that_the_last_checkpoint_finds_fails_the_run(self, run_dir: Path) -> None:
        with start(run_dir, environ={"ELASTIC_KEEP_FREE_BYTES": str(10**18)}) as run:
            assert run.wait() == [1]
            assert run.notes()[0].startswith("no checkpoint could be written now: disk full: ")
            assert "the last checkpoint, of step 12, could not be written: disk full" in run.stderr()
            assert "Traceback" not in run.stderr()
            assert not run.checkpoints()


class TestLocalCheckpoints:
    def test_are_kept_so_many(self, run_dir: Path) -> None:
        environ = {"ELASTIC_CHECKPOINT_EVERY_S": "0", "ELASTIC_KEEP_LOCAL": "3"}
        seen: set[str] = set()

        def five_were_written() -> bool:
            seen.update(path.name for path in run.checkpoints())
            return len(seen) >= 5

        with start(run_dir, LONG, environ=environ) as run:
            wait_until(five_were_written, "five checkpoints, as fast as this disk takes them")
            run.signal(signal.SIGTERM)
            assert run.wait() == [75]
            left = [path.name for path in run.checkpoints()]
            assert len(left) == 3
            assert left[-1] == f"step-{run.reports()[-1]['step']:012d}"
            assert left[-1] >= max(seen)

    def test_what_a_killed_predecessor_left_half_written_is_swept(self, run_dir: Path) -> None:
        left = run_dir / "checkpoints" / ".tmp-step-000000000003"
        left.mkdir(parents=True)
        (left / "student.pt").write_bytes(b"half")
        with start(run_dir) as run:
            run.finish()
            assert not left.exists()


class TestNoRankOutlivesItsLauncher:
    def test_it_dies_with_its_parent_if_asked_to(self, run_dir: Path) -> None:
        launcher = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-m', 'trainer', *sys.argv[1:]])\n"
            "print(child.pid, file=open(sys.argv[2] + '/pid', 'w'), flush=True)\n"
            "time.sleep(600)\n"
        )
        command = (sys.executable, "-c", launcher)
        with start(run_dir, LONG, environ={"ELASTIC_DIE_WITH_PARENT": "1"}, command=command) as run:
            run.wait_for_step(1)
            trainer = psutil.Process(int((run_dir / "pid").read_text()))
            try:
                run.signal(signal.SIGKILL)
                wait_until(lambda: not runs(trainer), "its end")
            finally:
                if runs(trainer):
                    trainer.kill()


def _refusal(tmp_path: Path, name: str, content: str, **environ: str) -> str:
    """What the trainer says to a config that it refuses; it must be quick, so before torch is imported."""
    path = tmp_path / name
    path.write_text(content)
    command = [sys.executable, "-X", "importtime", "-m", "trainer", str(path), str(tmp_path / "run")]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert "| torch\n" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    return sentence


def _json(**changes: Any) -> str:
    return json.dumps(TINY | changes)


class TestABadConfigIsRefusedInOneSentence:
    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("config.json", "{", "config.json:1:2: not JSON"),
            ("config.json", "[]", "expected fields and values, the training section of a job, found a list"),
            ("config.yaml", "", "found nothing"),
            ("config.yaml", "steps: [1", "config.yaml:1:10: not YAML"),
            ("config.yaml", "steps: 1\nsteps: 2\n", 'config.yaml:2:1: not YAML: found duplicate key "steps"'),
            ("config.json", _json(stepz=3), "stepz: unknown field (did you mean 'steps'?)"),
            ("config.json", _json(steps="many"), "steps: must be a whole number"),
            ("config.json", "[" * 100_000, "config.json: nested too deeply to be the training section of a job"),
            ("config.json", f'{{"seed": {"9" * 5000}}}', "config.json: a number in it has too many digits to be read"),
            ("config.json", _json(batch=18), "18 images cannot be split over 4 shards"),
            ("config.json", _json(batch=4, labelled_batch=4, method="supervised"), "BatchNorm needs 2, so at least 8"),
        ],
    )
    def test_in_the_file(self, tmp_path: Path, name: str, content: str, says: str) -> None:
        assert says in _refusal(tmp_path, name, content)

    def test_in_the_environment(self, tmp_path: Path) -> None:
        said = _refusal(tmp_path, "config.json", _json(), ELASTIC_CHECKPOINT_EVERY_S="soon")
        assert said == "trainer: ELASTIC_CHECKPOINT_EVERY_S: 'soon' is not a number"

    def test_a_file_that_is_missing(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "trainer", str(tmp_path / "none.json"), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert done.stderr == f"trainer: {tmp_path / 'none.json'}: cannot be read: No such file or directory\n"

    def test_a_yaml_file_serves_as_well(self, run_dir: Path, tmp_path: Path) -> None:
        path = tmp_path / "training.yaml"
        path.write_text("steps: 1\nbatch: 8\nlabelled_batch: 4\nshards: 2\nmethod: supervised\n")
        command = [sys.executable, "-m", "trainer", str(path), str(run_dir)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        (final,) = (run_dir / "checkpoints").iterdir()
        assert not (final / "teacher.pt").exists()
        assert json.loads((final / "result.json").read_text())["teacher_accuracy"] is None
