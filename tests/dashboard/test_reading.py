"""How often the store is asked, and what pages have while it does not answer."""

import threading

import pytest

from orchestrator.dashboard.kept import SLOW_S, Kept
from orchestrator.dashboard.pages import MOST_JOB_PAGES, Pages
from orchestrator.errors import ElasticError
from orchestrator.jobs.bucket import UnknownJob
from orchestrator.jobs.phases import JobPhase
from orchestrator.store.protocol import StoreError
from tests.cli.stored_jobs import finish, log, put_pending, put_training
from tests.dashboard.conftest import PATIENCE_S, Clock, CountedStore, job_of, overview_of
from tests.support.waiting import wait_until

POLL_S = 2.0


def polls(pages: Pages, clock: Clock, seconds: float, *, job: bool = False) -> None:
    """An open page, for so long."""
    for _ in range(round(seconds / POLL_S)):
        clock.passes(POLL_S)
        overview_of(pages)
        if job:
            job_of(pages)


def test_what_an_open_page_costs_where_requests_are_billed(clock: Clock) -> None:
    """The figures in the package's docstring."""
    bucket = CountedStore(billed=True)
    put_training(bucket)
    log(bucket, "digits", 1, 0, b"line\n")
    pages = Pages(bucket, clock.now, clock.monotonic)
    polls(pages, clock, 60, job=True)  # the first looks read more

    bucket.asked.clear()
    polls(pages, clock, 600)
    assert bucket.asked == {"GET": 4 * 300, "LIST": 2 * 20}

    bucket.asked.clear()
    polls(pages, clock, 600, job=True)
    assert bucket.asked == {"GET": 4 * 300, "LIST": (2 + 3) * 20}


def test_a_job_that_is_over_costs_nothing_more(clock: Clock) -> None:
    bucket = CountedStore(billed=True)
    for number in range(5):
        put_training(bucket, f"job-{number}")
        finish(bucket, f"job-{number}", JobPhase.SUCCEEDED, "finished")
        bucket.delete(f"todo/jobs/job-{number}")
    pages = Pages(bucket, clock.now, clock.monotonic)
    polls(pages, clock, 2)

    bucket.asked.clear()
    polls(pages, clock, 600)
    assert bucket.asked["GET"] == 300  # the lease


def test_many_pages_cost_as_much_as_one_and_no_page_costs_nothing(
    bucket: CountedStore, pages: Pages, clock: Clock
) -> None:
    put_training(bucket)
    overview_of(pages)
    assert bucket.asked
    bucket.asked.clear()

    for _ in range(50):
        overview_of(pages)
    assert not bucket.asked
    clock.passes(3600)
    assert not bucket.asked


def test_who_asks_at_the_same_time_is_answered_by_one_read() -> None:
    reads: list[int] = []
    may_end = threading.Event()

    def read() -> int:
        reads.append(1)
        assert may_end.wait(PATIENCE_S)
        return len(reads)

    kept = Kept(read, 60.0, lambda: 0.0)
    values: list[int | None] = []
    askers = [threading.Thread(target=lambda: values.append(kept.get(PATIENCE_S).value)) for _ in range(8)]
    for asker in askers:
        asker.start()
    wait_until(lambda: reads, "somebody reads")
    may_end.set()
    for asker in askers:
        asker.join(PATIENCE_S)

    assert values == [1] * 8


def test_a_store_that_is_away_leaves_what_was_read_and_says_so(
    bucket: CountedStore, pages: Pages, clock: Clock
) -> None:
    put_training(bucket)
    overview_of(pages)
    bucket.error = StoreError("The bucket is away: look for it.")
    clock.passes(3)

    reading = pages.overview(PATIENCE_S)

    assert reading.value is not None
    assert [row.name for row in reading.value.jobs] == ["digits"]
    assert (str(reading.error), reading.age_s) == ("The bucket is away: look for it.", 3.0)
    bucket.error = None
    clock.passes(2)
    again = pages.overview(PATIENCE_S)
    assert (again.error, again.age_s) == (None, 0.0)


def test_a_store_that_hangs_keeps_nobody_waiting(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_training(bucket)
    overview_of(pages)
    bucket.goes_on.clear()
    clock.passes(3)

    first = pages.overview(0.0)
    clock.passes(SLOW_S)
    later = pages.overview(0.0)

    assert first.error is None
    assert later.value is not None
    assert "does not answer" in str(later.error)
    bucket.goes_on.set()
    wait_until(lambda: pages.overview(0.0).error is None, "it is read again")


def test_a_fault_of_ours_is_told_and_ends_nothing() -> None:
    def read() -> int:
        raise ZeroDivisionError("by zero")

    kept = Kept(read, 0.0, lambda: 0.0)
    error = kept.get(PATIENCE_S).error

    assert isinstance(error, ElasticError)
    assert "fault of elastic" in str(error)
    assert "by zero" in str(error)


def test_a_job_that_there_is_not_is_forgotten_at_once(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_pending(bucket, "digits")
    reading = pages.job("digitss", PATIENCE_S)
    assert isinstance(reading.error, UnknownJob)
    assert "did you mean 'digits'?" in str(reading.error)

    put_pending(bucket, "digitss")
    assert job_of(pages, "digitss").job.phase == "pending"


@pytest.mark.parametrize("more", [3])
def test_only_so_many_pages_are_remembered(bucket: CountedStore, pages: Pages, more: int) -> None:
    names = [f"job-{number}" for number in range(MOST_JOB_PAGES + more)]
    for name in names:
        put_pending(bucket, name)
        assert job_of(pages, name).job.name == name
    bucket.asked.clear()

    job_of(pages, names[-1])
    assert not bucket.asked
    job_of(pages, names[0])
    assert bucket.asked
