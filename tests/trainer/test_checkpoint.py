"""A checkpoint is whole or absent; a damaged one, or one of another run, is refused in a sentence that says why."""

import errno
import json
import os
import shutil
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.waiting import wait_until
from tests.trainer.launch import TINY, Run, result, start
from trainer.checkpoint import (
    DIGESTS,
    Meta,
    load_checkpoint,
    made_with,
    remove_checkpoint,
    what_matters,
    write_checkpoint,
)
from trainer.checkpoint_writer import CheckpointWriter
from trainer.config import TrainingConfig
from trainer.data.digits import load_digits
from trainer.errors import CheckpointFailed, CheckpointRefused
from trainer.loop import DRAINED, train
from trainer.options import RunOptions
from trainer.priority import Do, SpareTime, at_once
from trainer.snapshot import Snapshot
from trainer.state import Counters, TrainState, build_state, digest
from trainer.stop import StopRequest
from trainer.world import World

CPU = torch.device("cpu")
DIGITS = load_digits(CPU)


def config(**changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({**TINY, **changes})


def fresh(settings: TrainingConfig | None = None) -> TrainState:
    settings = settings or config()
    return build_state(settings, settings.plan(DIGITS.facts), CPU)


def meta(step: int) -> Meta:
    return Meta(
        step=step,
        counters=Counters(step=step, updates=step),
        dataset=DIGITS.fingerprint,
        total_steps=12,
        samples=16 * step,
        epoch=0.1,
        seconds_training=1.0,
        student_accuracy=None,
        teacher_accuracy=0.5,
        made_with=made_with(World(0, 1, CPU), "fp32", channels_last=False, compiled=False),
        world_size=1,
        config=config().model_dump(mode="json"),
    )


def state_digest(state: TrainState) -> str:
    snapshot = Snapshot(state)
    snapshot.take()
    return digest(snapshot.files(), snapshot.counters)


@pytest.fixture(scope="module")
def state() -> TrainState:
    return fresh()


@pytest.fixture
def copy(undisturbed: Run, tmp_path: Path) -> Path:
    """A checkpoint that a real run wrote, as an agent brings it, which compares digests itself: to be tampered with."""
    return Path(shutil.copytree(undisturbed.checkpoints()[-1], tmp_path / "resume", ignore=lambda *_: [DIGESTS]))


@pytest.fixture
def original(undisturbed: Run, tmp_path: Path) -> Path:
    """The same with the digests that were written beside."""
    return Path(shutil.copytree(undisturbed.checkpoints()[-1], tmp_path / "original"))


def test_what_was_written_is_read_bit_for_bit(undisturbed: Run, copy: Path, state: TrainState) -> None:
    read = load_checkpoint(copy, config(), DIGITS, state)
    assert state.step == read.step == 12
    assert state_digest(state) == result(undisturbed)["digest"]


def test_how_often_to_evaluate_may_change(copy: Path, state: TrainState) -> None:
    load_checkpoint(copy, config(evaluate_every=3), DIGITS, state)


def test_folders_may_move_and_their_images_may_not_change_size() -> None:
    folders = {"labelled": "a", "test": "b", "unlabelled": None, "unreadable": "fail", "image_px": 32, "mirrors": True}
    settings = what_matters({"folders": folders, "loading": {"images": "auto"}, "data_dir": "c", "seed": 1})
    assert settings == {"folders.image_px": 32, "folders.mirrors": True, "seed": 1}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 7}, r"these differ: seed \(checkpoint 0, config 7\)"),
        (
            {"batch": 32, "optimizer": {"lr": 0.5}},
            r"batch \(checkpoint 16, config 32\), optimizer\.lr \(checkpoint 0\.05",
        ),
        ({"method": "supervised"}, r"method \(checkpoint mean_teacher, config supervised\)"),
    ],
)
def test_of_another_run_the_fields_that_differ_are_named(copy: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointRefused, match=says):
        load_checkpoint(copy, config(**changes), DIGITS, fresh(config(**changes)))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _replace(path: Path, name: str, tensor: torch.Tensor | None) -> None:
    content = torch.load(path, weights_only=True)
    content.pop(name)
    if tensor is not None:
        content[name] = tensor
    torch.save(content, path)


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("student.pt", _cut, "student.pt: damaged"),
        ("teacher.pt", Path.unlink, "teacher.pt: missing"),
        ("optimizer.pt", lambda p: p.write_bytes(b""), "optimizer.pt: damaged"),
        ("optimizer.pt", lambda p: torch.save([1], p), "optimizer.pt: not a state dict"),
        (
            "student.pt",
            lambda p: _replace(p, "fc.weight", None),
            r"fc.weight is absent there and torch.float32 \(10, 512\)",
        ),
        ("student.pt", lambda p: _replace(p, "fc.bias", torch.zeros(7)), r"fc.bias is torch.float32 \(7,\) there and"),
        ("student.pt", lambda p: _replace(p, "fc.bias", torch.zeros(10).double()), "fc.bias is torch.float64"),
        ("meta.json", lambda p: p.write_text("{"), "meta.json: damaged"),
        ("meta.json", lambda p: p.write_text('{"format": 2}'), "meta.json: damaged"),
        ("meta.json", lambda p: p.write_text('{"format": 9}'), "checkpoint format 9, this trainer reads 2"),
        ("meta.json", Path.unlink, "meta.json: cannot be read"),
    ],
)
def test_damage_is_refused_and_leaves_the_state_alone(
    copy: Path, state: TrainState, file: str, damage: Any, says: str
) -> None:
    before = state_digest(state)
    damage(copy / file)
    with pytest.raises(CheckpointRefused, match=says):
        load_checkpoint(copy, config(), DIGITS, state)
    assert state_digest(state) == before


def test_with_its_digests_it_is_read_as_well(original: Path, state: TrainState, undisturbed: Run) -> None:
    load_checkpoint(original, config(), DIGITS, state)
    assert state_digest(state) == result(undisturbed)["digest"]


@pytest.mark.parametrize("file", ["student.pt", "teacher.pt", "optimizer.pt", "meta.json", "result.json"])
def test_a_single_bit_that_no_format_shows_is_refused_by_the_digests(
    original: Path, state: TrainState, file: str
) -> None:
    before = state_digest(state)
    content = bytearray((original / file).read_bytes())
    content[len(content) // 2] ^= 1
    (original / file).write_bytes(content)
    with pytest.raises(CheckpointRefused, match=rf"{file}: altered since it was written; resume from another"):
        load_checkpoint(original, config(), DIGITS, state)
    assert state_digest(state) == before


def test_with_digests_a_missing_file_is_told_of_as_missing(original: Path, state: TrainState) -> None:
    (original / "teacher.pt").unlink()
    with pytest.raises(CheckpointRefused, match=r"teacher\.pt: missing"):
        load_checkpoint(original, config(), DIGITS, state)


def test_of_a_version_that_knew_images_by_names_and_sizes_alone_it_is_refused(copy: Path, state: TrainState) -> None:
    meta_of_it = json.loads((copy / "meta.json").read_text())
    folders = {"labelled": "images", "test": "tests", "image_px": 8}
    of_folders = TrainingConfig.model_validate(meta_of_it["config"] | {"dataset": "folder", "folders": folders})
    meta_of_it |= {"config": of_folders.model_dump(mode="json"), "dataset": "0123456789abcdef"}
    (copy / "meta.json").write_text(json.dumps(meta_of_it))
    with pytest.raises(CheckpointRefused, match="is of an earlier version, which knew images by names and sizes"):
        load_checkpoint(copy, of_folders, DIGITS, state)


@pytest.mark.parametrize("content", ["{", "[]", '{"student.pt": 7}', '"text"'])
def test_digests_that_are_damaged_are_no_digests_to_trust(original: Path, state: TrainState, content: str) -> None:
    (original / DIGESTS).write_text(content)
    with pytest.raises(CheckpointRefused, match=r"trainer-sha256\.json: damaged|student\.pt: altered"):
        load_checkpoint(original, config(), DIGITS, state)


def test_a_pickle_that_would_run_code_is_refused(copy: Path, state: TrainState, tmp_path: Path) -> None:
    torch.save({"fc.bias": _Trap(tmp_path / "sprung")}, copy / "student.pt")
    with pytest.raises(CheckpointRefused, match=r"student\.pt: damaged"):
        load_checkpoint(copy, config(), DIGITS, state)
    assert not (tmp_path / "sprung").exists()


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_run_that_is_given_a_damaged_checkpoint_ends_with_2_and_no_traceback(copy: Path, run_dir: Path) -> None:
    _cut(copy / "student.pt")
    run_dir.mkdir()
    copy.rename(run_dir / "resume")
    with start(run_dir) as run:
        assert run.wait() == [2]
        assert "student.pt: damaged" in run.stderr()
        assert "Traceback" not in run.stderr()


def test_a_run_on_other_ground_says_so_once(copy: Path, run_dir: Path) -> None:
    content = json.loads((copy / "meta.json").read_text())
    content["made_with"]["torch"] = "2.10.0"
    (copy / "meta.json").write_text(json.dumps(content))
    run_dir.mkdir()
    copy.rename(run_dir / "resume")
    with start(run_dir) as run:
        run.finish()
        (note,) = run.notes()
        assert note.startswith(
            "resumed on other ground, later bits may differ from an undisturbed run: torch 2.10.0 ->"
        )


def test_a_run_that_stops_at_a_step_which_it_has_just_written_leaves_that_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes it away while it is written again would find files of both."""
    written: list[int] = []

    def write(parent: Path, snapshot: Snapshot, *others: Any) -> Path:
        written.append(snapshot.step)
        return write_checkpoint(parent, snapshot, *others)

    monkeypatch.setattr("trainer.checkpoint_writer.write_checkpoint", write)
    stop = StopRequest()
    stop.requested = True
    options = RunOptions(tmp_path / "config.json", tmp_path, checkpoint_every_s=0.0, tensorboard=False)
    assert train(config(), options, World(0, 1, CPU), stop, time.monotonic, lambda: datetime.now(UTC)) == DRAINED
    assert written == [1]
    assert [place.name for place in (tmp_path / "checkpoints").iterdir()] == ["step-000000000001"]


class TestTheWriter:
    @pytest.mark.parametrize("patience_s", [0.0, 60.0])
    def test_writes_what_was_there_when_it_was_asked(
        self, state: TrainState, tmp_path: Path, patience_s: float
    ) -> None:
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=0, patience_s=patience_s)
        state.counters.step = state.counters.updates = 3
        expected = state_digest(state)
        writer.start(meta(3))
        state.student.weights.add_(1)  # the next step, while the file is being written
        if patience_s:
            wait_until(lambda: not writer.busy, "it is written in spare time, and nobody waits for it", 60)
        writer.wait()
        outcome = writer.poll()
        assert outcome is not None
        assert outcome.failure is None
        again = fresh()
        load_checkpoint(tmp_path / "step-000000000003", config(), DIGITS, again)
        assert state_digest(again) == expected
        assert writer.poll() is None
        assert writer.stall_s > 0

    def test_keeps_the_newest_and_leaves_later_steps_alone(self, state: TrainState, tmp_path: Path) -> None:
        (tmp_path / "step-000000000099").mkdir()
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=0)
        for step in (1, 2, 3):
            state.counters.step = step
            writer.start(meta(step))
        writer.wait()
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["step-000000000002", "step-000000000003", "step-000000000099"]

    def test_what_cannot_be_removed_fails_no_checkpoint(
        self, state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(place: Path) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(place))

        monkeypatch.setattr("trainer.checkpoint_writer.remove_checkpoint", refuse)
        writer = CheckpointWriter(tmp_path, state, keep_local=1, keep_free_bytes=0)
        for step in (1, 2, 3):
            state.counters.step = step
            writer.start(meta(step))
            writer.wait()
            outcome = writer.poll()
            assert outcome is not None
            assert outcome.failure is None
        assert len(list(tmp_path.iterdir())) == 3

    def test_would_rather_skip_than_fill_the_disk(self, state: TrainState, tmp_path: Path) -> None:
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=10**18)
        writer.start(meta(state.step))
        writer.wait()
        outcome = writer.poll()
        assert outcome is not None
        assert outcome.failure is not None
        assert outcome.failure.endswith("MiB, and 953674316406 MiB are to be kept")
        assert not list(tmp_path.iterdir())
        with pytest.raises(CheckpointFailed, match="could not be written: disk full"):
            writer.write_last(meta(state.step), writer.copy(), {})

    def test_knows_which_state_it_has_written(self, state: TrainState, tmp_path: Path) -> None:
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=0)
        state.counters.step = state.counters.updates = 3
        assert not writer.has_written(state.counters)
        writer.start(meta(3))
        assert writer.has_written(state.counters)
        assert not writer.has_written(replace(state.counters, step=4))
        assert not writer.has_written(replace(state.counters, lr_factor=0.5)), "it was rolled back to there"

    def test_has_not_written_what_failed(
        self, state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if it had written that step once: since, it went back and came to it again."""
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=0)
        writer.start(meta(state.step))
        assert writer.has_written(state.counters)
        monkeypatch.setattr(writer, "_keep_free_bytes", 10**18)
        writer.start(meta(state.step))
        assert not writer.has_written(state.counters)

    def test_writes_the_same_bytes_from_any_thread_and_no_checksum_but_its_own(
        self, state: TrainState, tmp_path: Path
    ) -> None:
        writer = CheckpointWriter(tmp_path, state, keep_local=2, keep_free_bytes=0)
        files = ("student.pt", "teacher.pt", "optimizer.pt")
        place = tmp_path / f"step-{state.step:012d}"

        def digests() -> list[str]:
            return [sha256((place / name).read_bytes()).hexdigest() for name in files]

        writer.start(meta(state.step))
        writer.wait()
        beside = digests()
        writer.write_last(meta(state.step), writer.copy(), {})
        assert digests() == beside
        for name in files:
            with zipfile.ZipFile(place / name) as archive:
                assert {entry.CRC for entry in archive.infolist()} == {0}

    @pytest.mark.parametrize("do", [at_once, SpareTime(lambda: 0.0)])
    def test_tells_the_digest_of_every_file(self, state: TrainState, tmp_path: Path, do: Do) -> None:
        snapshot = Snapshot(state)
        snapshot.take()
        place = write_checkpoint(tmp_path, snapshot, meta(snapshot.step), {"result.json": {}}, do)
        found = {each.name: sha256(each.read_bytes()).hexdigest() for each in place.iterdir() if each.name != DIGESTS}
        assert json.loads((place / DIGESTS).read_text()) == found
        assert found.keys() == {"student.pt", "teacher.pt", "optimizer.pt", "meta.json", "result.json"}

    def test_what_it_removes_is_whole_or_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        place = tmp_path / "step-000000000001"
        place.mkdir()
        (place / "meta.json").write_text("{}")
        names: list[str] = []

        def rmtree(path: Path, *, ignore_errors: bool) -> None:
            names.extend(each.name for each in tmp_path.iterdir())
            remove(path, ignore_errors=ignore_errors)

        remove = shutil.rmtree
        monkeypatch.setattr("trainer.checkpoint.shutil.rmtree", rmtree)
        remove_checkpoint(place)
        assert names[-1] == ".tmp-old-step-000000000001"
        assert list(tmp_path.iterdir()) == []
        remove_checkpoint(place)

    def test_replaces_a_checkpoint_of_the_same_step(self, state: TrainState, tmp_path: Path) -> None:
        snapshot = Snapshot(state)
        snapshot.take()
        place = write_checkpoint(tmp_path, snapshot, meta(snapshot.step))
        (place / "result.json").write_text("old")
        write_checkpoint(tmp_path, snapshot, meta(snapshot.step))
        assert not (place / "result.json").exists()
        assert [path.name for path in tmp_path.iterdir()] == [place.name]
