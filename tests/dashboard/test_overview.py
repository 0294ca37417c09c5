"""What the first page shows of a store."""

from datetime import timedelta

from orchestrator.dashboard.overview import without_older
from orchestrator.dashboard.pages import Pages
from orchestrator.jobs import layout
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.record import InstanceUse
from orchestrator.reading.meanings import Meaning
from orchestrator.store.lease import Lease
from orchestrator.store.owner import Owner, this_process
from tests.cli.stored_jobs import NOW, beat, change, finish, put_pending, put_training, tell
from tests.dashboard.conftest import Clock, CountedStore, overview_of


def test_an_empty_store_has_an_overview_and_no_controller(pages: Pages) -> None:
    page = overview_of(pages)

    assert (page.jobs, page.instances, page.older) == ([], [], 0)
    assert not page.controller.alive
    assert "elastic daemon" in page.controller.words
    assert page.instances_words == "No instance runs."


def test_a_job_that_trains_is_told_in_one_line(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)
    tell(bucket, "digits", EventKind.SCALE_UP, "utilisation 96 % is above 80 %")

    (row,) = overview_of(pages).jobs

    assert (row.name, row.words, row.reason) == ("digits", "running · training", "running on 2 workers")
    assert (row.steps, row.done_words, row.accuracy) == ("412 of 700", "59 %", "95.3 %")
    assert row.eta not in ("", "–")
    assert (row.size, row.place) == ("2 workers", "1 × local")
    assert (row.busy.percent, row.busy.down_below, row.busy.up_above) == (90.0, 30.0, 80.0)
    assert row.last_event is not None
    assert (row.last_event.kind, row.last_event.meaning) == ("scale up", Meaning.RESIZE)


def test_jobs_that_run_come_first_then_those_that_wait_then_the_latest_end(bucket: CountedStore, pages: Pages) -> None:
    for name in ("ended", "ended-before"):
        put_training(bucket, name)
    finish(bucket, "ended", JobPhase.SUCCEEDED, "finished", at=NOW)
    finish(bucket, "ended-before", JobPhase.FAILED, "failed", at=NOW - timedelta(hours=1))
    put_pending(bucket, "waits", at=NOW)
    put_training(bucket, "runs")

    assert [row.name for row in overview_of(pages).jobs] == ["runs", "waits", "ended", "ended-before"]


def test_what_ended_long_ago_is_counted_and_paid_but_shown_only_to_who_asks(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket, "old")
    change(bucket, "old", spent_usd=2.5)
    finish(bucket, "old", JobPhase.SUCCEEDED, "finished", at=NOW - timedelta(days=2))

    whole = overview_of(pages)
    page = without_older(whole, NOW)

    assert [row.name for row in whole.jobs] == ["old"]
    assert (page.jobs, page.older) == ([], 1)
    assert page.spend.total == "$2.50"


def test_what_costs_money_now_is_listed_with_its_sum(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)
    use = InstanceUse(
        instance="digits-g1-n0-a0",
        instance_type="g6.xlarge",
        zone="us-east-1b",
        market="spot",
        usd_per_hour=0.32,
        since=NOW - timedelta(hours=2),
        allowance_s=3 * 3600,
        lived_s=2 * 3600,
        shown=True,
    )
    change(bucket, "digits", uses=(use,), counted_at=NOW, spent_usd=1.0)

    page = overview_of(pages)

    (row,) = page.instances
    assert (row.state, row.type, row.market, row.zone) == ("running", "g6.xlarge", "spot", "us-east-1b")
    assert (row.usd_per_hour, row.cost, row.lived, row.left) == ("$0.32", "$0.64", "2h 00m", "1h 00m")
    assert page.instances_words == "1 instance, $0.32 an hour"
    assert (page.spend.per_hour, page.spend.total) == ("$0.32", "$1.64")


def test_one_job_that_cannot_be_read_hides_no_other(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)
    put_pending(bucket, "broken")
    bucket.put(layout.record_key("broken"), b"{}")

    page = overview_of(pages)

    assert [row.name for row in page.jobs] == ["digits"]
    assert len(page.left_out) == 1
    assert page.left_out[0].startswith("broken is left out: ")


def test_what_changes_is_seen_and_what_is_removed_goes(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_training(bucket)
    put_pending(bucket, "other")
    assert {row.name for row in overview_of(pages).jobs} == {"digits", "other"}

    beat(bucket, "digits", number=2, step=500)
    for entry in list(bucket.list(layout.job_prefix("other"))):
        bucket.delete(entry.key)
    clock.passes(3)

    (row,) = overview_of(pages).jobs
    assert row.steps == "500 of 700"


def test_another_job_under_the_name_of_one_that_was_over_is_seen(
    bucket: CountedStore, pages: Pages, clock: Clock
) -> None:
    put_training(bucket)
    finish(bucket, "digits", JobPhase.SUCCEEDED, "finished")
    bucket.delete(layout.todo_key("digits"))
    assert overview_of(pages).jobs[0].over
    for entry in list(bucket.list(layout.job_prefix("digits"))):
        bucket.delete(entry.key)
    put_pending(bucket, at=NOW + timedelta(seconds=1))
    clock.passes(40)

    (row,) = overview_of(pages).jobs
    assert (row.phase, row.last_event.kind if row.last_event else "") == ("pending", "submitted")


def test_who_leads_is_told_and_whether_it_still_does(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    lease = Lease(bucket, this_process("ada@workshop"), ttl_s=20.0)
    assert lease.try_acquire()
    controller = overview_of(pages).controller
    assert controller.alive
    assert controller.words.startswith("ada@workshop, pid ")

    lease.release()
    clock.passes(2)
    assert not overview_of(pages).controller.alive


def test_a_controller_elsewhere_is_believed_for_as_long_as_it_renews(
    bucket: CountedStore, pages: Pages, clock: Clock
) -> None:
    elsewhere = Owner(host="other:boot:1", pid=7, started=1.0, label="ada@elsewhere")
    lease = Lease(bucket, elsewhere, ttl_s=20.0, clock=clock.monotonic)
    assert lease.try_acquire()
    first = overview_of(pages).controller
    assert first.alive

    clock.passes(23)
    still = overview_of(pages).controller
    assert still.alive
    assert still.heard_at == first.heard_at
    clock.passes(2)
    gone = overview_of(pages).controller
    assert not gone.alive
    assert "elastic daemon" in gone.words
    assert "ada@elsewhere" in gone.detail
    assert lease.renew()
    clock.passes(2)
    assert overview_of(pages).controller.alive
