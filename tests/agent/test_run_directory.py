"""The run directory: whole checkpoints, whole lines, whatever else lies about."""

import json
import os
import socket
from pathlib import Path

import pytest

from orchestrator.agent.equipment import UnfitCheckpoint
from orchestrator.agent.exits import last_line
from orchestrator.agent.run_directory import (
    LOOK_BYTES,
    LocalCheckpoint,
    ProgressReader,
    RunDirectory,
    as_activity,
    as_progress,
)
from orchestrator.store.local import LocalStore
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import StoreError
from tests.agent.committing import write


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.prepare({"steps": 100, "nested": {"lr": 0.1}})
    return run


def test_it_begins_with_the_config_and_nothing_of_an_earlier_try(run: RunDirectory) -> None:
    run.resume.mkdir()
    (run.checkpoints / "step-000000000001").mkdir()
    run.progress.write_text("{}\n")
    run.prepare({"steps": 5})
    assert json.loads(run.config.read_text()) == {"steps": 5}
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "config.json", "logs"]


def test_those_of_generations_before_are_removed_when_the_next_one_begins(tmp_path: Path) -> None:
    first, second = RunDirectory.of(tmp_path, 1), RunDirectory.of(tmp_path, 2)
    first.prepare({})
    (tmp_path / "launcher-1.log").write_text("")
    second.prepare({})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["launcher-1.log", "run-g000002"]


def test_only_what_was_renamed_into_place_is_a_checkpoint(run: RunDirectory) -> None:
    for name in ("step-000000000020", "step-000000000003", ".step-000000000030.tmp", "step-30", "notes"):
        (run.checkpoints / name).mkdir()
    assert [checkpoint.step for checkpoint in run.whole_checkpoints()] == [3, 20]


def test_a_checkpoint_with_a_result_is_the_last(run: RunDirectory) -> None:
    for step in (1, 2):
        (run.checkpoints / f"step-{step:012d}").mkdir()
    (run.checkpoints / "step-000000000002" / "result.json").write_text("{}")
    (run.checkpoints / "step-000000000002" / "model.pt").write_bytes(b"x")
    first, last = run.whole_checkpoints()
    assert (first.final, last.final) == (False, True)
    assert [file.name for file in last.files()] == ["model.pt", "result.json"]


def test_a_run_directory_that_is_gone_has_no_checkpoints(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path / "gone").whole_checkpoints() == []


def test_each_line_is_read_once_and_only_when_it_is_whole(run: RunDirectory) -> None:
    reader = ProgressReader(run.progress)
    assert list(reader.lines()) == []
    with open(run.progress, "ab", buffering=0) as log:
        log.write(b'{"step": 1}\n{"step": 2}\n{"st')
        assert list(reader.lines()) == [{"step": 1}, {"step": 2}]
        assert list(reader.lines()) == []
        log.write(b'ep": 3}')
        assert list(reader.lines()) == []
        log.write(b"\n")
        assert list(reader.lines()) == [{"step": 3}]
        assert list(reader.lines()) == []


@pytest.mark.parametrize("garbage", [b"", b"{", b"null", b"[1]", b"\xff\xfe", b'{"step": 1', b"step 3"])
def test_a_torn_line_costs_itself_alone(run: RunDirectory, garbage: bytes) -> None:
    run.progress.write_bytes(b'{"step": 1}\n' + garbage + b'\n{"step": 2}\n')
    assert list(ProgressReader(run.progress).lines()) == [{"step": 1}, {"step": 2}]


def test_a_step_is_all_that_a_report_needs(run: RunDirectory) -> None:
    report = as_progress({"step": 7})
    assert report is not None
    assert (report.step, report.loss) == (7, None)
    report = as_progress({"step": 7, "loss": 0.5, "teacher_accuracy": None, "a_word_of_its_own": [1, 2]})
    assert report is not None
    assert (report.loss, report.teacher_accuracy) == (0.5, None)


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"note": "resumed", "step": 7},
        {"activity": "looking at images", "time": "now"},
        {"step": "seven"},
        {"step": None},
        {"loss": 1},
    ],
)
def test_what_is_no_report_is_none(line: dict[str, object]) -> None:
    assert as_progress(line) is None


def test_what_a_trainer_does_is_a_word_of_its_own() -> None:
    assert as_activity({"activity": "looking at 3 of 5 images", "time": "now"}) == "looking at 3 of 5 images"
    assert as_activity({"activity": "x" * 10_000}) == "x" * 300
    assert [as_activity(line) for line in ({"step": 3}, {"note": "resumed"}, {"activity": 7})] == [None] * 3


def test_logs_of_a_rank_are_where_torchrun_puts_them(run: RunDirectory) -> None:
    for rank in (0, 1, 10):
        directory = run.logs / "digits-g1_abc" / "attempt_0" / str(rank)
        directory.mkdir(parents=True)
        for stream in ("stdout.log", "stderr.log"):
            (directory / stream).write_text("")
    assert [log.name for log in run.rank_logs(1)] == ["stderr.log", "stdout.log"]
    assert all(log.path.parent.name == "1" for log in run.rank_logs(1))


def test_a_line_that_is_no_json_is_noted_once(run: RunDirectory) -> None:
    run.progress.write_bytes(b'step 1\n\n{"step": 1}\nstep 2\n')
    assert list(run.new_lines()) == [
        {"step": 1},
        {"note": "a line of progress.jsonl is no JSON object and is passed over: step 2"},
    ]
    with open(run.progress, "ab") as log:
        log.write(b"step 3\n")
    assert list(run.new_lines()) == []


def test_a_word_of_a_report_that_is_something_else_costs_itself_alone() -> None:
    report = as_progress({"step": 7, "total_steps": 9, "loss": [0.5], "epoch": "3/10", "accuracy": 0.5})
    assert report is not None
    assert (report.step, report.total_steps, report.loss, report.epoch, report.accuracy) == (7, 9, None, None, 0.5)


def test_a_checkpoint_of_nothing_or_with_links_is_unfit(run: RunDirectory) -> None:
    place = run.checkpoints / "step-000000000007"
    place.mkdir()
    (checkpoint,) = run.whole_checkpoints()
    with pytest.raises(UnfitCheckpoint, match=r"step-000000000007 is empty: write a checkpoint's files into"):
        checkpoint.files()
    (place / "state").write_text("x")
    assert [file.name for file in checkpoint.files()] == ["state"]
    (place / "latest").symlink_to("/etc/hostname")
    with pytest.raises(UnfitCheckpoint, match="holds latest, which is neither a file nor a directory"):
        checkpoint.files()
    elsewhere = run.path / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    with pytest.raises(UnfitCheckpoint, match="step-000000000007 is reached by a link"):
        checkpoint.files()


def test_what_is_no_plain_file_is_not_read(run: RunDirectory) -> None:
    """A link would lead the agent out of the program's container, and a pipe let it wait for ever."""
    secret = run.path / "secret"
    secret.write_text('{"step": 1}\n')
    run.progress.symlink_to(secret)
    assert (list(run.new_lines()), run.progress_log.read(0, 100)) == ([], b"")
    run.progress.unlink()
    os.mkfifo(run.progress)
    assert (list(run.new_lines()), run.progress_log.read(0, 100)) == ([], b"")
    run.progress.unlink()
    run.progress.write_text('{"step": 2}\n')
    assert list(run.new_lines()) == [{"step": 2}]


def test_a_socket_in_place_of_a_file_is_no_file(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("progress.jsonl")
        assert (list(run.new_lines()), run.progress_log.read(0, 100)) == ([], b"")


def test_a_look_takes_in_so_much_and_the_next_goes_on(run: RunDirectory) -> None:
    line = b'{"step": 1, "pad": "' + b"x" * 1000 + b'"}\n'
    count = LOOK_BYTES // len(line) + 10
    run.progress.write_bytes(line * count)
    first, second = list(run.new_lines()), list(run.new_lines())
    assert len(first) == LOOK_BYTES // len(line)
    assert len(first) + len(second) == count


def test_a_line_without_end_is_passed_over(run: RunDirectory) -> None:
    with open(run.progress, "wb") as file:
        file.truncate(2 * LOOK_BYTES + 1)
        file.seek(0, os.SEEK_END)
        file.write(b'{"step": 1}\n{"step": 2}\n')
    looks = [list(run.new_lines()) for _ in range(4)]
    assert [[line.get("step") for line in look] for look in looks] == [[None], [], [2], []]
    assert "is no JSON object and is passed over" in looks[0][0]["note"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_last_line_is_only_of_a_plain_file(run: RunDirectory, kind: str) -> None:
    (run.path / "secret").write_text("of somebody else\n")
    said = run.path / "stderr.log"
    if kind == "link":
        said.symlink_to(run.path / "secret")
    else:
        os.mkfifo(said)
    (run.path / "stdout.log").write_text("its own\n")
    assert last_line([said, run.path / "stdout.log"]) == "its own"


def test_logs_of_containers_are_read_where_no_container_can_write(run: RunDirectory) -> None:
    """A container makes a link in its run directory where torchrun would have put its log."""
    run.keep_container_logs()
    kept = run.container_logs(0) / "stderr.log"
    kept.write_text("what it printed\n")
    (run.path.parent / "secret").write_text("of somebody else\n")
    forged = run.logs / "containers" / "attempt_0" / "0"
    forged.mkdir(parents=True)
    (forged / "stdout.log").symlink_to(run.path.parent / "secret")
    assert [log.path for log in run.rank_logs(0)] == [kept]
    assert run.path not in kept.parents
    run.prepare({})
    assert run.rank_logs(0) == []


@pytest.mark.parametrize("instead", ["a file", "a link"])
def test_a_checkpoints_directory_that_is_none_is_unfit(run: RunDirectory, tmp_path: Path, instead: str) -> None:
    run.checkpoints.rmdir()
    if instead == "a file":
        run.checkpoints.write_text("")
    else:
        (tmp_path / "of-another" / "step-000000000001").mkdir(parents=True)
        run.checkpoints.symlink_to(tmp_path / "of-another")
    with pytest.raises(UnfitCheckpoint, match="checkpoints in the run directory is a link or a file"):
        run.whole_checkpoints()


def test_a_directory_below_another_and_so_on_is_unfit(run: RunDirectory) -> None:
    checkpoint = write(run, 5)
    checkpoint.path.joinpath(*["d"] * 40).mkdir(parents=True)
    with pytest.raises(UnfitCheckpoint, match="lies too deep"):
        checkpoint.files()


SWAPPED = ["step-000000000005/state.bin", "step-000000000005", ""]
"""What a program puts a link for, below the checkpoints, when the agent has looked at them already."""


def swap(run: RunDirectory, what: str) -> Path:
    """Put a link to another job's in the place of a run's; returns that job's checkpoint of the same step."""
    other = RunDirectory(run.path.parent / "other")
    other.prepare({})
    theirs = write(other, 5).path
    place = run.checkpoints / what
    place.rename(run.path / "was")
    place.symlink_to(other.checkpoints / what)
    return theirs


@pytest.mark.parametrize("what", SWAPPED)
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_was_swapped_for_a_link_is_not_uploaded(run: RunDirectory, tmp_path: Path, kind: str, what: str) -> None:
    store = LocalStore(tmp_path / "store") if kind == "local" else MemoryStore()
    (state,) = [file for file in write(run, 5).files() if file.name == "state.bin"]
    theirs = swap(run, what) / "state.bin"
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        state.upload(store, "stolen")
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        _ = state.size_bytes
    assert store.get("stolen") is None
    assert theirs.stat().st_mode & 0o200, "it is as it was"


def looked_at(run: RunDirectory) -> list[LocalCheckpoint]:
    try:
        return run.whole_checkpoints()
    except UnfitCheckpoint:
        return []


@pytest.mark.parametrize("what", SWAPPED)
def test_what_was_swapped_for_a_link_is_not_removed(run: RunDirectory, what: str) -> None:
    checkpoint = write(run, 5, final=True)
    theirs = swap(run, what)
    (theirs / "result.json").write_text("{}")
    final = {SWAPPED[0]: [True], SWAPPED[1]: [False], SWAPPED[2]: []}
    assert [each.final for each in looked_at(run)] == final[what]
    checkpoint.remove()
    assert sorted(path.name for path in theirs.iterdir()) == ["meta.json", "result.json", "state.bin"]


def test_a_pipe_in_a_checkpoint_holds_nobody(run: RunDirectory) -> None:
    checkpoint = write(run, 5)
    (state,) = [file for file in checkpoint.files() if file.name == "state.bin"]
    state.path.unlink()
    os.mkfifo(state.path)
    with pytest.raises(FileNotFoundError):
        state.upload(MemoryStore(), "key")
    os.mkfifo(run.checkpoints / "step-000000000006")
    for each in run.whole_checkpoints():
        each.remove()
    assert run.whole_checkpoints() == []


def test_the_local_store_links_what_is_handed_on_as_it_is_open(run: RunDirectory, tmp_path: Path) -> None:
    """Gigabytes need not be copied; and an error has the file's name."""
    store = LocalStore(tmp_path / "store")
    (state,) = [file for file in write(run, 5).files() if file.name == "state.bin"]
    state.upload(store, "kept")
    assert (tmp_path / "store" / "kept").samefile(state.path)
    (tmp_path / "store" / "a-file").write_text("")
    with pytest.raises(StoreError, match=f"Cannot upload {state.path} as a-file/below"):
        state.upload(store, "a-file/below")
