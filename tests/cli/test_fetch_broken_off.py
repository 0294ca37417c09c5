"""A fetch holds on to what it reads, lets go of it however it ends, and goes on where it was broken off."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli.pinning import Reader, pinned
from orchestrator.jobs import layout
from orchestrator.jobs.pins import Pin
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import NotAllowed, Progress, Store, StoreError
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import nonce, put_checkpoint, put_training
from tests.cli.test_fetch import FINAL, TEACHER
from tests.support.waiting import wait_until


@pytest.fixture
def job(store: Store) -> Store:
    put_training(store)
    put_checkpoint(store, "digits", FINAL, step=700, final=True)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def pins(store: Store) -> list[Pin]:
    found = (store.get(entry.key) for entry in store.list(layout.pins_prefix("digits")))
    return [Pin.model_validate_json(each.body) for each in found if each is not None]


def downloading(job: Store, monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None]) -> None:
    """Have something happen before each download, which is told its key."""
    download = type(job).download

    def interposed(self: Store, key: str, path: Path, progress: Progress | None = None) -> str:
        before(key)
        return download(self, key, path, progress)

    monkeypatch.setattr(type(job), "download", interposed)


def breaks_at(name: str, error: BaseException) -> Callable[[str], None]:
    def check(key: str) -> None:
        if key.endswith(name):
            raise error

    return check


# --- pins -------------------------------------------------------------------------------------------------------------


def test_the_checkpoint_is_pinned_while_it_is_read(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Pin] = []
    downloading(job, monkeypatch, lambda _: seen.extend(pins(job)))
    assert elastic("fetch", "digits", str(folder)).code == 0
    assert {pin.checkpoint for pin in seen} == {layout.checkpoint_prefix("digits", 700, 1)}
    assert "@" in seen[0].by
    assert pins(job) == []


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(143), StoreError("away"), MemoryError()], ids=repr)
def test_the_pin_goes_however_the_reading_ends(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    downloading(job, monkeypatch, breaks_at("result.json", end))
    assert elastic("fetch", "digits", str(folder)).code != 0
    assert pins(job) == []


def test_a_pin_is_renewed_and_claimed_anew_when_it_was_taken_for_a_dead_readers() -> None:
    store = MemoryStore()
    reader = Reader(by="me", nonce=nonce, tell=pytest.fail, renew_every_s=0.005)

    def keys() -> list[tuple[str, str]]:
        return [(entry.key, entry.etag) for entry in store.list(layout.pins_prefix("digits"))]

    with pinned(store, "digits", "jobs/digits/checkpoints/x/", reader):
        ((key, etag),) = keys()
        wait_until(lambda: keys() != [(key, etag)], "the pin is renewed", 10)
        assert [name for name, _ in keys()] == [key]
        store.delete(key)
        wait_until(lambda: bool(keys()), "another pin", 10)
        assert [name for name, _ in keys()] != [key]
    assert keys() == []


def test_who_may_only_read_is_told_what_may_happen_and_reads(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Store, key: str, body: bytes) -> str:
        raise NotAllowed(f"{key} may not be written")

    monkeypatch.setattr(type(job), "create", refuse)
    outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code == 0
    assert "may remove the checkpoint while it is read" in outcome.err
    assert (folder / "model.pt").read_bytes() == TEACHER


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [StoreError("The store is away."), KeyboardInterrupt()], ids=repr)
def test_what_came_whole_is_not_asked_for_again(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
) -> None:
    with monkeypatch.context() as patch:
        downloading(job, patch, breaks_at("result.json", end))
        outcome = elastic("fetch", "digits", str(folder))
    assert outcome.code != 0
    assert "the same command goes on from there" in outcome.err
    assert [path.name for path in folder.iterdir()] == [".fetch-digits"]
    asked: list[str] = []
    downloading(job, monkeypatch, lambda key: asked.append(key.rpartition("/")[2]))
    assert elastic("fetch", "digits", str(folder)).code == 0
    assert asked == ["result.json", "labelled.json"]
    assert (folder / "model.pt").read_bytes() == TEACHER
    assert not (folder / ".fetch-digits").exists()


def test_what_came_of_another_checkpoint_goes(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        downloading(job, patch, breaks_at("result.json", StoreError("The store is away.")))
        elastic("fetch", "digits", str(folder))
    put_checkpoint(job, "digits", FINAL, step=800, final=True)
    asked: list[str] = []
    downloading(job, monkeypatch, asked.append)
    assert elastic("fetch", "digits", str(folder)).code == 0
    assert {key.split("/")[3] for key in asked} == {"000000000800-g000001"}
    assert len(asked) == 3
    assert not (folder / ".fetch-digits").exists()


def test_where_nothing_came_nothing_is_left(
    job: Store, elastic: Elastic, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloading(job, monkeypatch, breaks_at("teacher.pt", StoreError("The store is away.")))
    outcome = elastic("fetch", "digits", str(folder))
    assert "kept" not in outcome.err
    assert list(folder.iterdir()) == []


def test_two_at_once_do_not_write_into_one_folder(job: Store, elastic: Elastic, folder: Path) -> None:
    (folder / ".fetch-digits").mkdir(parents=True)
    descriptor = os.open(folder / ".fetch-digits", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        outcome = elastic("fetch", "digits", str(folder))
    finally:
        os.close(descriptor)
    assert outcome.code == 2
    assert "another elastic fetch is writing into" in outcome.err
    assert elastic("fetch", "digits", str(folder)).code == 0
