"""A job that is over is removed whole, or goes on being there until the same call completes it."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pytest

from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import NameTaken, job_names, load_record, submit_job
from orchestrator.jobs.former import remember_generation
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.removal import remove_job
from orchestrator.store import document
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Conflict, ReplyLost, Store, StoreError
from tests.controller.world import World
from tests.support.interposed import InterposedStore, Operation
from tests.support.specs import job_spec

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_numbers = count()


def nonce() -> str:
    return f"{next(_numbers):032d}"


class DyingStore(MemoryStore):
    """Does so many more changes and no more."""

    left = 10**9

    def delete(self, key: str, etag: str | None = None) -> None:
        self._spend()
        super().delete(key, etag)

    def put(self, key: str, body: bytes) -> str:
        self._spend()
        return super().put(key, body)

    def replace(self, key: str, body: bytes, etag: str) -> str:
        self._spend()
        return super().replace(key, body, etag)

    def _spend(self) -> None:
        if self.left == 0:
            raise StoreError("away")
        self.left -= 1


def put_over(store: Store, name: str = "digits") -> None:
    """A job that was cancelled, with something of each kind left."""
    stored = submit_job(store, job_spec(name), NOW, nonce)
    store.delete(layout.todo_key(name))
    over = stored.value.model_copy(update={"phase": JobPhase.CANCELLED, "ended_at": NOW})
    document.swap(store, layout.record_key(name), stored, over, nonce)
    checkpoint = layout.checkpoint_prefix(name, 5, 1)
    for key in (
        layout.head_key(name),
        layout.event_key(name, 1),
        layout.decision_key(name, 2, 1),
        layout.log_key(name, 1, layout.rank_stream(0), 0),
        layout.progress_key(name, 1, 0),
        f"{checkpoint}state",
        layout.manifest_key(checkpoint),
        layout.heartbeat_key(layout.instance_id(name, 1, 0, 0)),
        layout.request_key(name, "late"),
    ):
        store.put(key, b"{}")


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list("") if not entry.key.startswith("control/")]


def test_everything_of_it_goes_and_nothing_of_a_job_whose_name_begins_like_it() -> None:
    store = MemoryStore()
    put_over(store, "digits-g1-n0-a0")
    others = keys(store)
    put_over(store, "digits")
    there_were = len(keys(store)) - len(others)
    removed = remove_job(store, "digits", NOW, nonce)
    assert keys(store) == others
    assert removed >= there_were


def test_broken_off_anywhere_it_is_completed_by_the_same_call_and_its_name_stays_taken_until_then() -> None:
    whole = DyingStore()
    put_over(whole)
    before = whole.left
    remove_job(whole, "digits", NOW, nonce)
    for changes in range(before - whole.left):
        store = DyingStore()
        put_over(store)
        store.left = changes
        with pytest.raises(StoreError):
            remove_job(store, "digits", NOW, nonce)
        store.left = 10**9
        assert list(job_names(store)) == ["digits"]
        with pytest.raises(NameTaken):
            submit_job(store, job_spec("digits"), NOW, nonce)
        remove_job(store, "digits", NOW, nonce)
        assert keys(store) == []


@pytest.mark.parametrize("phase", [JobPhase.PENDING, JobPhase.RUNNING, JobPhase.PAUSED])
def test_a_job_that_is_not_over_stays(phase: JobPhase) -> None:
    store = MemoryStore()
    stored = submit_job(store, job_spec(), NOW, nonce)
    document.swap(store, layout.record_key("digits"), stored, stored.value.model_copy(update={"phase": phase}), nonce)
    before = keys(store)
    with pytest.raises(UsageError, match=f"digits is {phase}: end it first with: elastic cancel digits"):
        remove_job(store, "digits", NOW, nonce)
    assert keys(store) == before


def test_a_job_that_a_controller_has_still_to_clean_up_after_stays() -> None:
    store = MemoryStore()
    put_over(store)
    store.put(layout.todo_key("digits"), b"")
    with pytest.raises(UsageError, match="a controller has still to clean up after it"):
        remove_job(store, "digits", NOW, nonce)
    store.delete(layout.todo_key("digits"))
    stored = load_record(store, "digits")
    retired = stored.value.model_copy(update={"retired": ("digits-g1-n0-a0",)})
    document.swap(store, layout.record_key("digits"), stored, retired, nonce)
    with pytest.raises(UsageError, match=r"its instances \(digits-g1-n0-a0\)"):
        remove_job(store, "digits", NOW, nonce)


def test_a_submit_that_was_broken_off_is_removed_too() -> None:
    store = MemoryStore()
    submit_job(store, job_spec(), NOW, nonce)
    store.delete(layout.record_key("digits"))
    remove_job(store, "digits", NOW, nonce)
    assert keys(store) == []


def test_a_submit_that_goes_on_meanwhile_is_not_torn() -> None:
    """It had written its spec and its mark when the removal began, and its record comes then."""

    class SlowSubmit(MemoryStore):
        def create(self, key: str, body: bytes) -> str:
            if key == layout.record_key("digits") and b'"removed"' in body:
                super().create(key, b"{}")  # the submit's record is a moment earlier
            return super().create(key, body)

    store = SlowSubmit()
    submit_job(store, job_spec(), NOW, nonce)
    store.delete(layout.record_key("digits"))
    before = keys(store)
    with pytest.raises(UsageError, match="was submitted just now"):
        remove_job(store, "digits", NOW, nonce)
    assert set(before) < set(keys(store))


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_job_that_was_submitted_after_another_had_removed_its_name_stays(is_whole: bool) -> None:
    """One who removes is slow, and another who does the same is through long before."""

    inner = MemoryStore()

    def around(operation: Operation, _key: str, call: Callable[[], object]) -> object:
        if operation == "abort":
            remove_job(inner, "digits", NOW, nonce)
            submit_job(inner, job_spec(), NOW, nonce)
            if not is_whole:  # its record is not there yet
                inner.delete(layout.record_key("digits"))
        return call()

    store = InterposedStore(inner, around)
    put_over(store)
    with pytest.raises(UsageError, match="digits was removed by another, and submitted again meanwhile"):
        remove_job(store, "digits", NOW, nonce)
    left = {layout.spec_key("digits"), layout.todo_key("digits")} | (
        {layout.record_key("digits")} if is_whole else set()
    )
    assert set(keys(store)) == left


def test_no_generation_of_a_name_comes_twice_so_that_no_launch_is_taken_for_an_older_one() -> None:
    """By the real controller, on a fleet that remembers every name that it was ever asked for."""
    world = World()
    for _ in range(3):
        world.run()
        world.tick()
        remove_job(world.store, "digits", world.clock.now(), world.nonce)
        submit_job(world.store, world.spec, world.clock.now(), world.nonce)
    world.run()
    assert world.record.phase is JobPhase.SUCCEEDED
    assert world.record.losses == world.record.failures == 0
    assert world.fleet.launches == [f"digits-g{number}-n0-a0" for number in (1, 2, 3, 4)]


def test_a_submit_that_was_broken_off_does_not_make_older_generations_forgotten() -> None:
    store = MemoryStore()
    remember_generation(store, "digits", 7)
    submit_job(store, job_spec(), NOW, nonce)
    store.delete(layout.record_key("digits"))
    remove_job(store, "digits", NOW, nonce)
    assert submit_job(store, job_spec(), NOW, nonce).value.last_generation == 7


def test_the_mark_of_removal_is_written_under_a_condition_as_records_are() -> None:
    class Guarded(MemoryStore):
        def put(self, key: str, body: bytes) -> str:
            assert key != layout.spec_key("digits"), "a bucket's policy would refuse it"
            return super().put(key, body)

    store = Guarded()
    put_over(store)
    remove_job(store, "digits", NOW, nonce)
    assert keys(store) == []


@pytest.mark.parametrize("is_done", [True, False], ids=["a lost reply", "another who removes it too"])
def test_who_cannot_tell_whether_the_mark_is_written_looks(is_done: bool) -> None:
    class Doubtful(MemoryStore):
        def replace(self, key: str, body: bytes, etag: str) -> str:
            written = super().replace(key, body, etag)
            if key == layout.spec_key("digits"):
                raise ReplyLost("perhaps") if is_done else Conflict("somebody was first")
            return written

    store = Doubtful()
    put_over(store)
    remove_job(store, "digits", NOW, nonce)
    assert keys(store) == []


def test_a_mark_that_is_not_written_ends_the_removal() -> None:
    class Refusing(MemoryStore):
        def replace(self, key: str, body: bytes, etag: str) -> str:
            if key == layout.spec_key("digits"):
                raise ReplyLost("it never came")
            return super().replace(key, body, etag)

    store = Refusing()
    put_over(store)
    with pytest.raises(ReplyLost):
        remove_job(store, "digits", NOW, nonce)
    assert list(job_names(store)) == ["digits"]
    assert load_record(store, "digits").value.phase is JobPhase.CANCELLED
