"""Requests that make no sense are refused before they are sent, with the reason."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.cli.asking import Wanted, check_cancel, check_pause, check_resize, check_resume, wanted_after
from orchestrator.errors import UsageError
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import Request
from tests.cli.stored_jobs import NOW, spec_named

Check = Callable[[JobRecord, Wanted], None]


def job(phase: JobPhase, wanted: Wanted = "run", pinned_rung: int | None = None) -> JobRecord:
    return JobRecord(name="digits", phase=phase, wanted=wanted, reason="", created_at=NOW, pinned_rung=pinned_rung)


@pytest.mark.parametrize("check", [lambda record, _: check_cancel(record), check_pause, check_resume])
@pytest.mark.parametrize("phase", [phase for phase in JobPhase if phase.over])
def test_nothing_can_be_asked_of_a_job_that_is_over(check: Check, phase: JobPhase) -> None:
    with pytest.raises(UsageError, match=f"digits is over \\({phase}\\)"):
        check(job(phase), "run")


@pytest.mark.parametrize(
    ("check", "phase", "wanted", "reason"),
    [
        (check_pause, JobPhase.RUNNING, "cancel", "being cancelled"),
        (check_pause, JobPhase.RUNNING, "pause", "being paused already"),
        (check_pause, JobPhase.PAUSED, "pause", "paused already"),
        (check_resume, JobPhase.RUNNING, "run", "not paused"),
        (check_resume, JobPhase.PENDING, "run", "not paused"),
        (check_resume, JobPhase.PAUSED, "cancel", "being cancelled"),
    ],
)
def test_what_is_done_already_is_refused(check: Check, phase: JobPhase, wanted: Wanted, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check(job(phase), wanted)


@pytest.mark.parametrize(
    ("check", "phase", "wanted"),
    [
        (check_pause, JobPhase.PENDING, "run"),
        (check_resume, JobPhase.RUNNING, "pause"),  # it still drains
        (check_resume, JobPhase.PAUSED, "pause"),
    ],
)
def test_what_makes_sense_is_not(check: Check, phase: JobPhase, wanted: Wanted) -> None:
    check(job(phase), wanted)


@pytest.mark.parametrize("wanted", ["run", "pause", "cancel"])
def test_whatever_is_not_over_can_be_cancelled_also_twice(wanted: Wanted) -> None:
    check_cancel(job(JobPhase.RUNNING, wanted))


@pytest.mark.parametrize("workers", [3, 8])
def test_a_size_must_be_a_rung_and_the_choices_are_named(workers: int) -> None:
    with pytest.raises(UsageError, match=f"cannot have {workers} workers: its ladder offers 1, 2, 4"):
        check_resize(job(JobPhase.RUNNING), spec_named("digits"), "run", workers)


def test_a_size_that_is_held_already_is_refused_and_so_is_automatic_twice() -> None:
    spec = spec_named("digits")
    check_resize(job(JobPhase.RUNNING), spec, "run", 2)
    check_resize(job(JobPhase.RUNNING, pinned_rung=1), spec, "run", None)
    with pytest.raises(UsageError, match="held at 2 workers already"):
        check_resize(job(JobPhase.RUNNING, pinned_rung=1), spec, "run", 2)
    with pytest.raises(UsageError, match="automatically already"):
        check_resize(job(JobPhase.RUNNING), spec, "run", None)


def test_requests_that_still_wait_count() -> None:
    def requests(*kinds: str) -> list[Request]:
        return [
            Request.model_validate({"id": str(i), "kind": kind, "at": NOW + timedelta(seconds=i), "by": "me"})
            for i, kind in enumerate(kinds)
        ]

    running = job(JobPhase.RUNNING)
    assert wanted_after(running, requests()) == "run"
    assert wanted_after(running, requests("resize", "pause")) == "pause"
    assert wanted_after(running, requests("pause", "resume")) == "run"
    assert wanted_after(running, requests("cancel", "resume")) == "cancel"
