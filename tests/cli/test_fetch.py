"""Fetching a model: verified, whole or not at all."""

import io
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event, SessionLog

from orchestrator.cli import curves
from orchestrator.cli.model_file import NoModel, read_header
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import submit_job
from orchestrator.spec.load import load_job
from orchestrator.store.protocol import Missing, Progress, Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import NOW, nonce, put_checkpoint, put_pending, put_training, spec_named
from trainer import tensorboard

TIME = "2026-01-02T03:04:05+00:00"


def saved(value: float, *, classes: int = 10, more: Mapping[str, torch.Tensor] | None = None) -> bytes:
    """What there must be of a network for small images, in a file as torch writes it."""
    file = io.BytesIO()
    torch.save(
        {"conv1.weight": torch.full((64, 3, 3, 3), value), "fc.weight": torch.zeros(classes, 512), **(more or {})}, file
    )
    return file.getvalue()


STUDENT, TEACHER = saved(1), saved(2)
FILES = {
    "student.pt": STUDENT,
    "teacher.pt": TEACHER,
    "optimizer.pt": b"momentum",
    "meta.json": json.dumps({"step": 400, "teacher_accuracy": 0.95, "config": {"seed": 0}}).encode(),
}
FINAL = {
    **FILES,
    "result.json": json.dumps({"teacher_accuracy": 0.96}).encode(),
    "labelled.json": b"[3, 5]",
}


@pytest.fixture
def job(store: Store) -> Store:
    put_training(store)
    for generation, chunk, body in ((2, 0, b'{"step": 3}\n'), (1, 1, b'{"step": 2}'), (1, 0, b'{"step": 1}\n')):
        store.create(layout.progress_key("digits", generation, chunk), body)
    return store


def events_of(file: Path) -> Iterator[Event]:
    """The records of an event file: length, a sum, the event, a sum."""
    body = file.read_bytes()
    while body:
        (size,) = struct.unpack("<Q", body[:8])
        yield Event.FromString(body[12 : 12 + size])
        body = body[16 + size :]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "digits"


def test_the_final_model_comes_with_result_config_and_progress(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, step=700, final=True)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 0
    assert {path.name for path in folder.iterdir()} == {
        *("model.pt", "metrics.json", "labelled.json", "config.yaml", "progress.jsonl")
    }
    assert (folder / "labelled.json").read_bytes() == b"[3, 5]"
    assert (folder / "model.pt").read_bytes() == TEACHER
    assert json.loads((folder / "metrics.json").read_text()) == {"teacher_accuracy": 0.96}
    assert load_job(folder / "config.yaml") == spec_named("digits")
    steps = [json.loads(line)["step"] for line in (folder / "progress.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert "model.pt" in outcome.out
    assert "The teacher (final)" in outcome.err


def test_it_says_how_to_load_a_network_for_small_images(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    said = elastic("fetch", "digits", str(folder)).err
    assert "model.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)" in said
    assert "model.maxpool = torch.nn.Identity()" in said
    assert "weights_only=True" in said


def test_a_running_job_gives_its_last_checkpoint_and_says_which(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FILES, step=400)
    outcome = elastic("fetch", "digits", str(folder), "-o", "json")
    fetched = json.loads(outcome.out)
    assert (fetched["step"], fetched["final"], fetched["model"]) == (400, False, "teacher")
    assert "not final: as of step 400" in outcome.err
    assert json.loads((folder / "metrics.json").read_text()) == {"step": 400, "teacher_accuracy": 0.95}


def test_without_a_teacher_it_is_the_student(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", {name: body for name, body in FINAL.items() if name != "teacher.pt"}, final=True)
    elastic("fetch", "digits", str(folder))
    assert (folder / "model.pt").read_bytes() == STUDENT


def test_what_is_there_is_not_written_over_unless_forced(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert elastic("fetch", "digits", str(folder)).code == 0
    (folder / "model.pt").write_text("changed")
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert (folder / "model.pt").read_text() == "changed"
    assert elastic("fetch", "digits", str(folder), "--force").code == 0
    assert (folder / "model.pt").read_bytes() == TEACHER
    assert (folder / "notes.txt").read_text() == "mine"


def test_what_is_not_known_of_own_images_is_read_from_the_model(store: Store, elastic: Elastic, folder: Path) -> None:
    folders = "training.folders={labelled: /data/a, test: /data/b}"
    own = spec_named("own", "training.dataset=folder", folders, "training.model.name=resnet50")
    submit_job(store, own, NOW, nonce)
    put_checkpoint(store, "own", {**FINAL, "teacher.pt": saved(2, classes=7)}, final=True)
    said = elastic("fetch", "own", str(folder)).err
    assert "model = torchvision.models.resnet50(num_classes=7)" in said


def test_a_second_head_is_taken_off(job: Store, elastic: Elastic, folder: Path) -> None:
    two = saved(2, more={"fc2.weight": torch.zeros(10, 512), "fc2.bias": torch.zeros(10)})
    put_checkpoint(job, "digits", {**FINAL, "teacher.pt": two}, final=True)
    assert elastic("fetch", "digits", str(folder)).code == 0
    assert set(torch.load(folder / "model.pt", weights_only=True)) == {"conv1.weight", "fc.weight"}


@pytest.mark.parametrize("model", [b"weights", saved(1)[:-40], saved(1).replace(b"fc.weight", b"fx.weight")])
def test_what_is_no_model_of_the_trainer_is_refused(job: Store, elastic: Elastic, folder: Path, model: bytes) -> None:
    put_checkpoint(job, "digits", {**FINAL, "teacher.pt": model}, final=True)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 1
    assert "is not one of elastic's own trainer" in outcome.err
    assert list(folder.iterdir()) == []


def test_a_model_file_can_call_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "touched",)  # type: ignore[return-value]

    torch.save({"fc.weight": Evil()}, tmp_path / "model.pt")
    with pytest.raises(NoModel, match="is not expected in a model file"):
        read_header(tmp_path / "model.pt")
    assert not (tmp_path / "touched").exists()


def test_curves_come_when_asked_for(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    lines = [{"step": 5, "loss": 1.0}, {"step": 9, "loss": 0.5, "note": "x"}, {"step": 9, "loss": 0.5, "time": TIME}]
    body = "\n".join(json.dumps(line) for line in [*lines, {"step": 7, "loss": 0.25}]).encode()
    job.create(layout.progress_key("digits", 3, 0), body)
    assert elastic("fetch", "digits", str(folder), "--tensorboard").code == 0
    assert elastic("fetch", "digits", str(folder), "--tensorboard").code == 2
    assert elastic("fetch", "digits", str(folder), "--tensorboard", "--force").code == 0
    (file,) = (folder / "tensorboard").iterdir()
    events = list(events_of(file))
    points = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert points == [(5, "loss/total", 1.0), (9, "loss/total", 0.5), (7, "loss/total", 0.25)]
    assert [e.step for e in events if e.session_log.status == SessionLog.START] == [7]
    assert [e.wall_time for e in events if e.step == 9] == [datetime.fromisoformat(TIME).timestamp()]


def test_what_an_earlier_fetch_has_left_goes_when_forced(job: Store, elastic: Elastic, folder: Path) -> None:
    """Labels and curves of another run beside this one's model would be believed."""
    put_checkpoint(job, "digits", FINAL, final=True)
    assert elastic("fetch", "digits", str(folder), "--tensorboard").code == 0
    put_training(job, "other")
    put_checkpoint(job, "other", FILES)
    assert elastic("fetch", "other", str(folder), "--force").code == 0
    assert {path.name for path in folder.iterdir()} == {*("model.pt", "metrics.json", "config.yaml", "progress.jsonl")}


def test_without_force_nothing_is_taken_away(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    mine = folder / "tensorboard" / "events.tfevents.1"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert elastic("fetch", "digits", str(folder)).code == 0
    assert mine.read_text() == "mine"


def test_curves_that_cannot_be_written_are_one_message_and_nothing_else_is_written(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    outcome = elastic("fetch", "digits", str(folder), "--tensorboard")
    assert outcome.code == 1
    assert "install tensorboardX with uv sync, or fetch without --tensorboard" in " ".join(outcome.err.split())
    assert list(folder.iterdir()) == []


def test_the_curves_are_the_trainers_own() -> None:
    assert curves.TAGS == tensorboard.TAGS


@pytest.mark.parametrize("damage", [TEACHER[:-1] + b"x", b"short"], ids=["other bytes", "short"])
def test_a_damaged_file_is_refused_and_leaves_nothing(
    job: Store, elastic: Elastic, folder: Path, damage: bytes
) -> None:
    prefix = put_checkpoint(job, "digits", FINAL, final=True)
    job.put(f"{prefix}teacher.pt", damage)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 1
    assert "is not what was committed" in outcome.err
    assert list(folder.iterdir()) == []


def test_a_checkpoint_that_is_replaced_meanwhile_is_fetched_anew(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_checkpoint(job, "digits", FILES, step=400)
    download = type(job).download

    def download_too_late(self: Store, key: str, path: Path, progress: Progress | None = None) -> str:
        if "000400" in key:
            put_checkpoint(job, "digits", FINAL, step=500, final=True)
            raise Missing(key)
        return download(self, key, path, progress)

    monkeypatch.setattr(type(job), "download", download_too_late)
    outcome = elastic("fetch", "digits", str(folder), "-o", "json")
    assert json.loads(outcome.out)["step"] == 500
    assert "the checkpoint of step 400 was removed before it could be read; looking again" in outcome.err


def test_a_checkpoint_with_a_file_missing_is_refused(job: Store, elastic: Elastic, folder: Path) -> None:
    prefix = put_checkpoint(job, "digits", FINAL, final=True)
    job.delete(f"{prefix}teacher.pt")
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 1
    assert "incomplete" in outcome.err


def test_a_job_without_a_checkpoint_has_nothing_to_fetch(store: Store, elastic: Elastic, folder: Path) -> None:
    put_pending(store)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 2
    assert "no checkpoint yet" in outcome.err
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_one_message(job: Store, elastic: Elastic, tmp_path: Path) -> None:
    put_checkpoint(job, "digits", FINAL, final=True)
    (tmp_path / "file").write_text("")
    assert elastic("fetch", "digits", str(tmp_path / "file")).code == 2
    too_long = elastic("fetch", "digits", str(tmp_path / (300 * "n")))
    assert too_long.code == 2
    assert "cannot be reached (File name too long): name another folder" in too_long.err
    outcome = elastic("fetch", "digits", str(tmp_path / "file" / "below"))
    assert outcome.code == 1
    assert "cannot write into" in outcome.err
