"""The commands on a bucket of a real S3 server, also for who may only read there."""

import json
import os
from pathlib import Path

import pytest

from orchestrator.jobs import layout
from orchestrator.jobs.phases import JobPhase
from orchestrator.store.open import open_store
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import finish, log, put_checkpoint, put_training
from tests.cli.test_fetch import FINAL, TEACHER
from tests.support.s3_servers import READER, seaweed_server, seaweed_store  # noqa: F401

pytestmark = pytest.mark.requires("seaweedfs")


@pytest.fixture
def bucket(seaweed_store: str, elastic: Elastic, monkeypatch: pytest.MonkeyPatch) -> Store:  # noqa: F811
    """A store in it, with a job that has ended, which every command here uses."""
    monkeypatch.setenv("ELASTIC_STORE", seaweed_store)
    store = open_store(seaweed_store, os.environ)
    put_training(store)
    put_checkpoint(store, "digits", FINAL, step=700, final=True)
    log(store, "digits", 1, 0, b"step 1\n")
    finish(store, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    store.delete(layout.todo_key("digits"))
    return store


def as_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER)


def test_a_job_is_listed_explained_fetched_and_removed(bucket: Store, elastic: Elastic, tmp_path: Path) -> None:
    assert elastic("ps", "-o", "name").out == "digits\n"
    assert json.loads(elastic("explain", "digits", "-o", "json").out)["decisions"][-1]["kind"] == "succeeded"
    assert elastic("logs", "digits").out == "step 1\n"
    assert elastic("fetch", "digits", str(tmp_path / "out")).code == 0
    assert (tmp_path / "out" / "model.pt").read_bytes() == TEACHER
    assert list(bucket.list(layout.pins_prefix("digits"))) == []
    assert elastic("rm", "digits", "--yes").code == 0
    assert [entry.key for entry in bucket.list("") if not entry.key.startswith("control/")] == []
    assert elastic("ps", "-o", "name").out == ""


def test_who_may_only_read_sees_what_there_is_and_fetches(
    bucket: Store, elastic: Elastic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_reader(monkeypatch)
    for command in ("ps", "explain digits"):
        assert elastic(*command.split()).code == 0, command
    outcome = elastic("fetch", "digits", str(tmp_path / "out"))
    assert outcome.code == 0
    assert "may remove the checkpoint while it is read" in outcome.err
    assert (tmp_path / "out" / "model.pt").read_bytes() == TEACHER


def test_who_may_only_read_changes_nothing_and_is_told_so(
    bucket: Store, elastic: Elastic, monkeypatch: pytest.MonkeyPatch
) -> None:
    there_were = [entry.key for entry in bucket.list("")]
    as_reader(monkeypatch)
    outcome = elastic("rm", "digits", "--yes")
    assert outcome.code == 4
    assert "was refused" in outcome.err
    assert [entry.key for entry in bucket.list("")] == there_were
