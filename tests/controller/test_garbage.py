"""Garbage: what nobody needs goes, and never anything that the head or a living reader can reach."""

import random
from itertools import count
from typing import Any

import pytest

from orchestrator.controller.collect import COLLECT_EVERY_S, JOBS_A_TICK, Collector
from orchestrator.controller.garbage import DECISIONS_KEPT, spare_checkpoints, spare_decisions
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import submit_job
from orchestrator.jobs.head import Head, Manifest, commit, load_head, seal
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.pins import pin
from orchestrator.jobs.record import JobRecord
from orchestrator.jobs.requests import send_request
from orchestrator.store import document
from orchestrator.store.document import Stored
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Conflict, NotAllowed
from tests.controller.builders import START
from tests.controller.world import World
from tests.support.specs import job_spec

RECORD = JobRecord(name="digits", reason="", created_at=START, last_generation=3)


def checkpoint(step: int, generation: int = 1) -> str:
    return layout.checkpoint_prefix("digits", step, generation)


def keys_of(*prefixes: str, whole: bool = True) -> list[str]:
    return [key for prefix in prefixes for key in ([f"{prefix}manifest.json"] if whole else []) + [f"{prefix}weights"]]


def test_the_newest_stay_and_the_manifest_of_an_old_one_goes_first() -> None:
    prefixes = [checkpoint(step) for step in (10, 20, 30, 40)]
    head = Head(epoch=1, generation=1, checkpoint=prefixes[-1], step=40)
    spare = spare_checkpoints(RECORD, keys_of(*prefixes), head, (), keep=3)
    assert spare == {prefixes[0]: [f"{prefixes[0]}manifest.json", f"{prefixes[0]}weights"]}


def test_what_is_half_uploaded_rejected_or_past_the_head_is_of_no_use() -> None:
    good, bad, half, past = checkpoint(10), checkpoint(20), checkpoint(5), checkpoint(30)
    head = Head(epoch=1, generation=1, checkpoint=good, step=10, rejected=(bad,))
    keys = keys_of(good, bad, past) + keys_of(half, whole=False)
    assert set(spare_checkpoints(RECORD, keys, head, (), keep=3)) == {bad, half, past}


def test_what_is_pinned_and_what_a_generation_that_is_not_known_has_stays() -> None:
    old, pinned, good, newer = checkpoint(10), checkpoint(20), checkpoint(30), checkpoint(40, generation=4)
    head = Head(epoch=1, generation=1, checkpoint=good, step=30)
    assert list(spare_checkpoints(RECORD, keys_of(old, pinned, good, newer), head, {pinned}, keep=1)) == [old]


def test_the_head_stays_whatever_else_there_is() -> None:
    chance = random.Random(4)
    for _ in range(500):
        there = [checkpoint(chance.randint(1, 9), chance.randint(1, 4)) for _ in range(8)]
        keys = {key for prefix in there for key in keys_of(prefix, whole=chance.random() < 0.8)}
        rejected = tuple(chance.sample(there, 2))
        pinned = set(chance.sample(there, 2))
        head = Head(epoch=1, generation=3, checkpoint=chance.choice(there), rejected=rejected)
        spare = spare_checkpoints(RECORD, sorted(keys), head, pinned, keep=chance.randint(2, 4))
        assert not ({head.checkpoint} | pinned) & set(spare)
        assert {key for parts in spare.values() for key in parts} <= keys


def test_of_kept_decisions_the_newest_stay() -> None:
    keys = [layout.decision_key("digits", n, 1) for n in range(DECISIONS_KEPT + 5)]
    assert spare_decisions(keys) == keys[:5]
    assert spare_decisions(keys[:7]) == []


def test_a_job_that_is_over_leaves_its_newest_checkpoints_and_logs_and_what_is_read() -> None:
    world = World(job_spec(checkpoint={"keep": 2}))
    for generation in range(1, 16):
        world.store.put(layout.log_key("digits", generation, "rank00000", 0), b"said")
    world.store.put(f"{checkpoint(3)}weights", b"half")
    world.run(until=lambda world: world.step >= 7)
    read = pin(world.store, "digits", checkpoint(5), by="ada", nonce=world.nonce)
    world.run()
    world.tick()
    left = list(world.store.prefixes(layout.checkpoints_prefix("digits")))
    assert [layout.parse_checkpoint(name) for name in left] == [(5, 1), (25, 1), (30, 1)]
    assert [entry.key for entry in world.store.list(layout.pins_prefix("digits"))] == [
        layout.pin_key("digits", read.value.nonce)
    ]
    assert list(world.store.prefixes(layout.logs_prefix("digits"))) == [f"g{n:06d}" for n in range(6, 16)]


def test_while_workers_may_live_their_checkpoints_are_left_to_their_agents() -> None:
    world = World().run(until=lambda world: world.step == 3)
    world.store.put(f"{checkpoint(99)}weights", b"being uploaded")
    world.store.put(layout.heartbeat_key("digits-g0-n0-a0"), b"{}")
    world.clock.elapsed_s += 2 * COLLECT_EVERY_S
    world.controller.tick(world.epoch)
    assert world.store.get(f"{checkpoint(99)}weights") is not None
    assert {key.split("/")[1] for key in world.objects()} == {"digits-g1-n0-a0"}, "another that is gone"


class LateCommit:
    """A job at rest, and the last write of an agent that is gone: the head on a checkpoint that it had uploaded."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        numbers = count(1)
        self.nonce = lambda: f"nonce {next(numbers)}"
        seal(self.store, "digits", 1, 1, self.nonce)
        for step in (20, 30):
            self.store.put(f"{checkpoint(step)}weights", b"")
            self.store.put(layout.manifest_key(checkpoint(step)), b"{}")
        commit(self.store, "digits", 1, Manifest(step=20, generation=1, final=False, files=()), self.nonce)
        self.seen = self.head
        self.collector = Collector(self.store, self.nonce, lambda: 0.0, lambda: True, lambda _job, _why: None)

    @property
    def head(self) -> Stored[Head]:
        head = load_head(self.store, "digits")
        assert head is not None
        return head

    def arrive(self) -> None:
        moved = self.seen.value.model_copy(update={"checkpoint": checkpoint(30), "step": 30})
        document.swap(self.store, layout.head_key("digits"), self.seen, moved, self.nonce)

    def kept(self) -> list[str]:
        return list(self.store.prefixes(layout.checkpoints_prefix("digits")))


def test_a_commit_comes_too_late_once_its_checkpoint_is_removed() -> None:
    late = LateCommit()
    assert late.collector.collect(job_spec(), RECORD)
    assert [layout.parse_checkpoint(name) for name in late.kept()] == [(20, 1)]
    with pytest.raises(Conflict):
        late.arrive()
    assert late.head.value.checkpoint == checkpoint(20)


def test_what_a_commit_names_that_came_just_in_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    late = LateCommit()
    replace, arrivals = late.store.replace, iter([late.arrive])

    def arrives_before(*arguments: Any) -> str:
        if arrive := next(arrivals, None):
            arrive()
        return replace(*arguments)

    monkeypatch.setattr(late.store, "replace", arrives_before)
    assert late.collector.collect(job_spec(), RECORD)
    assert late.head.value.checkpoint == checkpoint(30)
    assert [layout.parse_checkpoint(name) for name in late.kept()] == [(20, 1), (30, 1)]


def test_what_the_store_does_not_allow_is_told_and_holds_nothing_up() -> None:
    world = World()

    def refused(prefix: str, older_than_s: float) -> int:
        raise NotAllowed(f"{prefix} {older_than_s}: not allowed")

    world.store.abort_uploads = refused  # type: ignore[method-assign]
    world.run()
    world.tick()
    assert list(world.store.list(layout.TODO)) == []
    assert [line for line in world.log if "what is not needed any more stays" in line]


def test_two_thousand_cancels_at_once_do_not_lock_up() -> None:
    """Every job ends at once, and what is left of them goes little by little."""
    world, jobs = World(), 2000
    names = ["digits", *(f"job-{n}" for n in range(jobs - 1))]
    for name in names[1:]:
        submit_job(world.store, job_spec(name), world.clock.now(), world.nonce)
    world.controller.tick(world.epoch)
    world.agents_act()
    for name in names:
        send_request(world.store, name, "cancel", now=world.clock.now(), by="ada", nonce=world.nonce)
    ticks, most = 0, 0
    while list(world.store.prefixes(layout.TODO)) and ticks <= jobs / JOBS_A_TICK + 10:
        written = len(world.writes)
        world.controller.tick(world.epoch)
        world.clock.elapsed_s += 1.0
        ticks, most = ticks + 1, max(most, len(world.writes) - written)
        if ticks == 3:
            assert world.fleet.alive() == [], "all end at once; only what is left of them goes little by little"
    assert world.record.phase is JobPhase.CANCELLED
    assert list(world.store.list(layout.TODO)) == []
    assert most <= 16 * jobs
