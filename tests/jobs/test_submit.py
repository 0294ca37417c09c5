"""Submitting: the name is taken by one, the job is whole or can be completed, and what is missing is said."""

import shutil
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from orchestrator.errors import ElasticError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import (
    NameTaken,
    UnknownJob,
    job_names,
    load_heartbeat,
    load_record,
    load_spec,
    load_state,
    store_identity,
    submit_job,
)
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.store import Conflict, ReplyLost, StoreError
from orchestrator.store.document import random_nonce
from orchestrator.store.local import LocalStore
from orchestrator.store.memory import MemoryStore
from tests.jobs.conftest import NOW
from tests.support.interposed import InterposedStore, LostReplies, Operation
from tests.support.specs import job_spec

Nonce = Callable[[], str]


def test_a_submitted_job_waits_for_a_controller(store: MemoryStore, nonce: Nonce) -> None:
    spec = job_spec("digits")
    submit_job(store, spec, NOW, nonce)
    record = load_record(store, "digits").value
    assert record.phase is JobPhase.PENDING
    assert record.created_at == NOW
    assert [event.kind for event in record.outbox] == [EventKind.SUBMITTED]
    assert record.outbox[0].number == record.last_event == 1
    assert load_spec(store, "digits") == spec
    assert list(job_names(store)) == ["digits"]
    state = load_state(store, "digits")
    assert (state.head, state.heartbeats) == (None, {})


def test_a_name_is_taken_once(store: MemoryStore, nonce: Nonce) -> None:
    submit_job(store, job_spec("digits"), NOW, nonce)
    before = load_record(store, "digits")
    for again in (job_spec("digits"), job_spec("digits", sizes=(1,))):
        with pytest.raises(NameTaken, match="--name"):
            submit_job(store, again, NOW, nonce)
    assert load_record(store, "digits") == before


def test_a_submit_that_died_half_way_is_completed_by_the_same_submit(store: MemoryStore, nonce: Nonce) -> None:
    spec = job_spec("digits")
    store.create(layout.spec_key("digits"), spec.model_dump_json(indent=2).encode())
    with pytest.raises(UnknownJob, match="submit the same file again"):
        load_record(store, "digits")
    with pytest.raises(NameTaken):
        submit_job(store, job_spec("digits", sizes=(1,)), NOW, nonce)
    submit_job(store, spec, NOW, nonce)
    assert load_record(store, "digits").value.phase is JobPhase.PENDING


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_to_the_claim_is_cleared_up_by_submitting_again(nonce: Nonce, applied: bool) -> None:
    store = InterposedStore(MemoryStore(), LostReplies("spec.json", applied=applied))
    with pytest.raises(ReplyLost):
        submit_job(store, job_spec("digits"), NOW, nonce)
    submit_job(store, job_spec("digits"), NOW, nonce)
    assert load_record(store, "digits").value.last_event == 1


def test_a_lost_reply_to_the_record_is_read_back(nonce: Nonce) -> None:
    store = InterposedStore(MemoryStore(), LostReplies("record.json", applied=True))
    submitted = submit_job(store, job_spec("digits"), NOW, nonce)
    assert load_record(store, "digits") == submitted


def test_of_many_who_submit_the_same_at_once_one_succeeds(store: MemoryStore) -> None:
    numbers, taken, submitted = count(), [], []
    start = threading.Barrier(8)

    def submit() -> None:
        start.wait(10)
        try:
            submitted.append(submit_job(store, job_spec("digits"), NOW, lambda: f"nonce-{next(numbers)}"))
        except NameTaken:
            taken.append(1)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(submitted), len(taken)) == (1, 7)
    assert load_record(store, "digits") == submitted[0]


def test_an_unknown_job_is_said_with_the_nearest_one(store: MemoryStore, nonce: Nonce) -> None:
    submit_job(store, job_spec("digits"), NOW, nonce)
    with pytest.raises(UnknownJob, match="did you mean 'digits'"):
        load_record(store, "digit")
    with pytest.raises(UnknownJob, match="elastic ps"):
        load_spec(store, "something-else")


def test_what_another_version_wrote_is_said_and_not_guessed(store: MemoryStore) -> None:
    store.create(layout.spec_key("digits"), b'{"name": "digits", "colour": "red"}')
    with pytest.raises(ElasticError, match="another version"):
        load_spec(store, "digits")
    store.put(layout.heartbeat_key("digits-g1-n0-a0"), b'{"instance": 3}')
    with pytest.raises(StoreError, match="is not a heartbeat"):
        load_heartbeat(store, "digits-g1-n0-a0")


def test_an_instance_that_has_said_nothing_has_no_heartbeat(store: MemoryStore) -> None:
    assert load_heartbeat(store, "digits-g1-n0-a0") is None


def test_a_store_is_told_from_an_earlier_one_at_the_same_address(tmp_path: Path) -> None:
    first = store_identity(LocalStore(tmp_path / "store"), random_nonce)
    assert store_identity(LocalStore(tmp_path / "store"), random_nonce) == first
    shutil.rmtree(tmp_path / "store")
    assert store_identity(LocalStore(tmp_path / "store"), random_nonce) != first


def test_a_name_that_was_refused_and_that_nobody_has_is_not_taken(store: MemoryStore, nonce: Nonce) -> None:
    """S3 answers 409 while another write of the key is under way; that one may come to nothing."""

    def refuse(operation: Operation, key: str, call: Callable[[], object]) -> object:
        if operation == "create" and key.endswith("spec.json"):
            raise Conflict(f"{key} is being written by others")
        return call()

    with pytest.raises(StoreError, match="submit it again"):
        submit_job(InterposedStore(store, refuse), job_spec("digits"), NOW, nonce)
