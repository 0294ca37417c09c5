"""Fetching a model: verified, whole or not at all."""

import json
from pathlib import Path

import pytest

from orchestrator.jobs import layout
from orchestrator.spec.load import load_job
from orchestrator.store.protocol import Missing, Progress, Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import put_checkpoint, put_pending, put_training, spec_named

FILES = {
    "student.pt": b"student weights",
    "teacher.pt": b"teacher weights",
    "optimizer.pt": b"momentum",
    "meta.json": json.dumps({"step": 400, "teacher_accuracy": 0.95, "config": {"seed": 0}}).encode(),
}
FINAL = {**FILES, "result.json": json.dumps({"teacher_accuracy": 0.96}).encode()}


@pytest.fixture
def job(store: Store) -> Store:
    put_training(store)
    for generation, chunk, body in ((2, 0, b'{"step": 3}\n'), (1, 1, b'{"step": 2}'), (1, 0, b'{"step": 1}\n')):
        store.create(layout.progress_key("digits", generation, chunk), body)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "digits"


def test_the_final_model_comes_with_result_config_and_progress(job: Store, elastic: Elastic, folder: Path) -> None:
    put_checkpoint(job, "digits", FINAL, step=700, final=True)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 0
    assert {path.name for path in folder.iterdir()} == {"model.pt", "metrics.json", "config.yaml", "progress.jsonl"}
    assert (folder / "model.pt").read_bytes() == b"teacher weights"
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
    assert (folder / "model.pt").read_bytes() == b"student weights"


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
    assert (folder / "model.pt").read_bytes() == b"teacher weights"
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", [b"other  weights!", b"short"])
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

    def download_too_late(self: Store, key: str, path: Path, progress: Progress | None = None) -> None:
        if "000400" in key:
            put_checkpoint(job, "digits", FINAL, step=500, final=True)
            raise Missing(key)
        download(self, key, path, progress)

    monkeypatch.setattr(type(job), "download", download_too_late)
    outcome = elastic("fetch", "digits", str(folder), "-o", "json")
    assert json.loads(outcome.out)["step"] == 500


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
    outcome = elastic("fetch", "digits", str(tmp_path / "file" / "below"))
    assert outcome.code == 1
    assert "cannot write into" in outcome.err
