"""Removing jobs that are over: all of them or none, and never by mistake."""

import pytest

from orchestrator.jobs.phases import JobPhase
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import change, finish, log, put_checkpoint, put_pending, put_training
from tests.cli.terminal import Terminal

FILES = {"teacher.pt": b"weights"}


def put_over(store: Store, name: str = "digits", phase: JobPhase = JobPhase.SUCCEEDED) -> None:
    put_training(store, name)
    put_checkpoint(store, name, FILES, final=True)
    log(store, name, 1, 0, b"step 1\n")
    finish(store, name, phase, "finished at step 700")
    store.delete(f"todo/jobs/{name}")
    store.delete(f"instances/{name}-g1-n0-a0/heartbeat.json")


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list("")]


@pytest.mark.parametrize("phase", [JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED])
def test_nothing_is_left_of_a_job_and_everything_of_the_others(elastic: Elastic, store: Store, phase: JobPhase) -> None:
    put_over(store, "digits-2")
    others = keys(store)
    put_over(store, "digits", phase)
    outcome = elastic("rm", "digits", "--yes")
    assert (outcome.code, outcome.out) == (0, "")
    assert "Removed digits (" in outcome.err
    assert [key for key in keys(store) if not key.startswith("control/")] == [
        key for key in others if not key.startswith("control/")
    ]
    assert elastic("show", "digits").code == 2


def test_its_name_is_free_again(elastic: Elastic, store: Store) -> None:
    put_over(store)
    assert elastic("rm", "digits", "--yes").code == 0
    put_pending(store, "digits")
    assert '"step": 0' in elastic("show", "digits", "-o", "json").out


def test_without_a_terminal_it_has_to_be_said(elastic: Elastic, store: Store) -> None:
    put_over(store)
    before = keys(store)
    outcome = elastic("rm", "digits")
    assert outcome.code == 2
    assert "say so with --yes" in outcome.err
    assert keys(store) == before


def test_a_job_that_is_not_over_is_refused_with_what_to_do_first(elastic: Elastic, store: Store) -> None:
    put_training(store)
    outcome = elastic("rm", "digits", "--yes")
    assert outcome.code == 2
    assert "digits is running: end it first with: elastic cancel digits" in outcome.err
    assert elastic("show", "digits").code == 0


def test_a_job_whose_instances_may_still_be_there_is_refused(elastic: Elastic, store: Store) -> None:
    put_over(store)
    change(store, "digits", retired=("digits-g1-n0-a0",))
    outcome = elastic("rm", "digits", "--yes")
    assert outcome.code == 2
    assert "has still to clean up after its instances (digits-g1-n0-a0)" in outcome.err


def test_several_are_all_or_none(elastic: Elastic, store: Store) -> None:
    put_over(store, "one")
    put_training(store, "two")
    outcome = elastic("rm", "one", "two", "--yes")
    assert outcome.code == 2
    assert "none of the 2 jobs was removed" in outcome.err
    assert elastic("show", "one").code == 0
    assert "did you mean 'one'" in elastic("rm", "onee", "--yes").err


def test_on_a_terminal_it_is_asked(store: Store, store_url: str) -> None:
    put_over(store)
    asked = Terminal("rm", "digits")
    asked.wait_for("[y/N]")
    asked.type("n\n")
    assert asked.finish() == 1
    assert "Nothing was done." in asked.written
    assert store.get("jobs/digits/spec.json") is not None
