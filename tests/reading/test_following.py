"""Watching a job through the bucket."""

from collections.abc import Iterator
from typing import Literal, Never

import pytest

from orchestrator.jobs.bucket import UnknownJob
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.controller_watch import GRACE_S, ControllerWatch
from orchestrator.reading.following import PATIENCE_S, JobWatch, follow
from orchestrator.store.lease import Lease
from orchestrator.store.memory import MemoryStore
from orchestrator.store.owner import Owner, this_process
from orchestrator.store.protocol import Entry, Object, StoreDenied, StoreError, Unchanged
from tests.cli.stored_jobs import NOW, beat, finish, nonce, put_pending, put_training, tell


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class CountingStore(MemoryStore):
    """Counts what is asked of it, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.listed = 0
        self.error: StoreError | None = None

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        if self.error is not None:
            raise self.error
        found = super().get_if_changed(key, etag)
        self.sent += not isinstance(found, Unchanged)
        return found

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        self.listed += 1
        return super().list(prefix, start_after)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket() -> CountingStore:
    return CountingStore()


def watch(store: MemoryStore, clock: Clock, job: str = "digits") -> JobWatch:
    return JobWatch(store, job, lambda: NOW, clock)


def test_events_come_once_in_order_also_those_only_in_the_outbox(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    watched = watch(bucket, clock)
    first = watched.look()
    assert [event.kind for event in first.new_events] == [EventKind.SUBMITTED, EventKind.STARTING, EventKind.TRAINING]
    assert watched.look().new_events == ()
    tell(bucket, "digits", EventKind.SCALE_UP, "busy")
    assert [event.message for event in watched.look().new_events] == ["busy"]


def test_a_look_at_what_did_not_change_sends_nothing_and_lists_nothing(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    watched = watch(bucket, clock)
    watched.look()
    bucket.sent = bucket.listed = 0
    watched.look()
    assert bucket.listed == 0
    assert bucket.sent == 1  # the head, which is not there yet


def test_live_words_of_the_instance_win_over_the_record(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    watched = watch(bucket, clock)
    assert watched.look().status.step == 412
    beat(bucket, "digits", number=2, step=500, percents=(50.0,))
    status = watched.look().status
    assert (status.step, status.utilization_percent, status.utilization_source) == (500, 50.0, "cpu")


def test_silence_is_counted_by_the_watchers_own_clock(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    watched = watch(bucket, clock)
    assert watched.look().silent_s == 0
    clock.sleep(25)
    assert watched.look().silent_s == 25
    beat(bucket, "digits", number=2)
    assert watched.look().silent_s == 0


def test_an_unknown_job_is_refused_at_the_first_look(bucket: CountingStore, clock: Clock) -> None:
    put_pending(bucket, "digits")
    with pytest.raises(UnknownJob, match="did you mean 'digits'"):
        watch(bucket, clock, "digit").look()


def test_following_ends_with_the_look_that_shows_the_job_over(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    looks = follow(watch(bucket, clock), sleep=clock.sleep, every_s=1, trouble=pytest.fail)
    assert not next(looks).over
    finish(bucket, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    rest = list(looks)
    assert [look.status.phase for look in rest] == [JobPhase.SUCCEEDED]
    assert [event.kind for event in rest[0].new_events] == [EventKind.SUCCEEDED]


def test_a_store_that_is_away_is_told_once_and_asked_again(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    told: list[str] = []
    away_until_s = clock.now_s + 60

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        bucket.error = StoreError("no answer.") if clock.now_s < away_until_s else None

    looks = follow(watch(bucket, clock), sleep=sleep, every_s=1, trouble=told.append)
    next(looks)
    next(looks)
    assert clock.now_s >= away_until_s
    assert told == ["no answer. Trying again; the job itself goes on."]


def test_a_store_that_stays_away_ends_it(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    looks = follow(watch(bucket, clock), sleep=clock.sleep, every_s=1, trouble=lambda _: None)
    next(looks)
    bucket.error = StoreError("no answer.")
    away_since_s = clock.now_s
    with pytest.raises(StoreError, match="no answer"):
        next(looks)
    assert clock.now_s - away_since_s > PATIENCE_S


@pytest.mark.parametrize("error", [StoreError("never there"), StoreDenied("expired")])
def test_a_store_that_never_answered_is_an_error_at_once(
    bucket: CountingStore, clock: Clock, error: StoreError
) -> None:
    put_training(bucket)
    bucket.error = error
    with pytest.raises(type(error), match=str(error)):
        next(follow(watch(bucket, clock), sleep=never, every_s=1, trouble=pytest.fail))


def test_credentials_that_expire_meanwhile_end_it_at_once(bucket: CountingStore, clock: Clock) -> None:
    put_training(bucket)
    looks = follow(watch(bucket, clock), sleep=clock.sleep, every_s=1, trouble=pytest.fail)
    next(looks)
    bucket.error = StoreDenied("expired")
    with pytest.raises(StoreDenied):
        next(looks)


def never(_: float) -> Never:
    pytest.fail("slept")


def missing_for(watched: ControllerWatch, clock: Clock, seconds: float) -> bool:
    """Look every second for so long; the last answer."""
    missing = watched.missing()
    for _ in range(int(seconds)):
        clock.sleep(1)
        missing = watched.missing()
    return missing


def test_no_controller_is_told_only_after_a_moment(bucket: CountingStore, clock: Clock) -> None:
    watched = ControllerWatch(bucket, clock)
    assert not missing_for(watched, clock, GRACE_S - 1)
    assert missing_for(watched, clock, 2)


def test_a_living_controller_is_not_missing_and_one_that_released_is(bucket: CountingStore, clock: Clock) -> None:
    lease = Lease(bucket, this_process("test"), clock=clock, nonce=nonce)
    assert lease.try_acquire()
    watched = ControllerWatch(bucket, clock)
    assert not missing_for(watched, clock, 60)
    lease.release()
    assert missing_for(watched, clock, 2 + GRACE_S + 2)


def test_a_controller_elsewhere_is_missing_when_it_no_longer_renews(bucket: CountingStore, clock: Clock) -> None:
    elsewhere = Owner(host="another:boot:1", pid=1, started=0.0, label="elsewhere")
    lease = Lease(bucket, elsewhere, clock=clock, nonce=nonce, owner_is_dead=lambda _: False)
    lease.try_acquire()
    watched = ControllerWatch(bucket, clock)
    for _ in range(6):
        assert not missing_for(watched, clock, 5)
        lease.renew()
    assert missing_for(watched, clock, 40)
