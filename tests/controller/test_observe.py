"""What one look at a job takes in, in which order, and by whose clock."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest

from orchestrator.controller.observation import Observation
from orchestrator.controller.observe import HEAD_EVERY_LOOKS, TELL_SILENCE_AFTER_S, Observer
from orchestrator.controller.watch import LOOKS_APART_S, JobWatch
from orchestrator.fleets.protocol import FleetError, InstanceState, Offer, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.instances import Heartbeat, TrainerProgress
from orchestrator.store import StoreError
from orchestrator.store.protocol import UNCHANGED
from tests.controller.world import World
from tests.support.interposed import InterposedStore, Operation

NAME = "digits-g1-n0-a0"


class Looking:
    """One controller's eyes on a job that trains; what it reads is kept."""

    def __init__(self) -> None:
        self.world = World().run(until=lambda world: world.step == 3)
        self.read: list[str] = []
        self.answers: list[object] = []
        store = InterposedStore(self.world.store, self._remember)
        self.observer = Observer(store, {"local": self.world.fleet}, self.world.clock.monotonic)
        self.watch = JobWatch.of("digits")

    def _remember(self, _operation: Operation, key: str, call: Callable[[], object]) -> object:
        self.read.append(key)
        answer = call()
        self.answers.append(answer)
        return answer

    def look(self) -> Observation:
        """One look, as a tick makes it."""
        self.read.clear()
        self.answers.clear()
        assert self.observer.load(self.watch)
        assert self.observer.ask_fleets([self.watch], lambda _job, _message: None) == set()
        self.observer.read_news(self.watch, 1)
        return self.observer.observe(self.watch, 1, ())[0]


@pytest.fixture
def looking() -> Looking:
    return Looking()


def test_the_head_is_read_after_the_heartbeats(looking: Looking) -> None:
    """So it is never older than what they tell: who has 'finished' has its last checkpoint in it."""
    looking.look()
    assert looking.read.index(layout.head_key("digits")) > looking.read.index(layout.heartbeat_key(NAME))


def test_a_job_that_trains_costs_one_conditional_read(looking: Looking) -> None:
    first = looking.look()
    assert looking.look() == first
    assert looking.read == [layout.heartbeat_key(NAME)]
    assert looking.answers == [UNCHANGED]


def test_the_head_is_read_when_a_heartbeat_tells_of_a_commit(looking: Looking) -> None:
    looking.look()
    beat = looking.watch.heartbeats[NAME].beat
    assert beat is not None
    told = beat.model_copy(update={"count": beat.count + 1, "committed_step": 5})
    looking.world.store.put(layout.heartbeat_key(NAME), told.model_dump_json().encode())
    looking.look()
    assert looking.read == [layout.heartbeat_key(NAME), layout.head_key("digits")]


def test_an_agent_that_is_heard_anew_lives_and_one_that_has_ceased_does_not(looking: Looking) -> None:
    """It was taken for ended, for the fleet has not shown it for long; the fleet may do so for longer still."""
    looking.look()
    looking.watch.forget(NAME)
    looking.world.fleet.describe = lambda instances: {}  # type: ignore[method-assign]
    assert looking.look().view(NAME).terminated, "what it had said before is nothing new"
    beat = looking.watch.heartbeats[NAME].beat
    assert beat is not None
    told = beat.model_copy(update={"count": beat.count + 1})
    looking.world.store.put(layout.heartbeat_key(NAME), told.model_dump_json().encode())
    assert not looking.look().view(NAME).terminated
    looking.watch.forget(NAME)
    looking.world.store.delete(layout.heartbeat_key(NAME))
    assert looking.look().view(NAME).terminated


def test_the_head_is_read_now_and_then_whatever_the_heartbeats_say(looking: Looking) -> None:
    heads = 0
    for _ in range(HEAD_EVERY_LOOKS * 2 + 2):
        looking.look()
        heads += layout.head_key("digits") in looking.read
    assert heads == 2, "the first look, and another"


def test_what_is_doubted_is_read_again(looking: Looking) -> None:
    looking.look()
    looking.watch.doubt()
    looking.look()
    assert set(looking.read) >= {layout.record_key("digits"), layout.head_key("digits"), layout.assignment_key(NAME)}


def test_when_the_record_was_written_is_known_as_long_as_it_is_that_version(looking: Looking) -> None:
    """One read that fails does not hand a job's age and its money to a wall clock that may have jumped."""
    looking.look()
    assert looking.watch.record.stored is not None
    looking.watch.writes[looking.watch.record.stored.value.nonce] = looking.world.clock.monotonic()
    looking.world.clock.elapsed_s += 7
    looking.watch.doubt()
    assert looking.look().since_written_s == 7
    looking.world.ask("pause")
    looking.world.run(until=lambda world: world.record.wanted == "pause")
    assert looking.look().since_written_s is not None, "nothing speaks against what is remembered"
    looking.watch.doubt()
    assert looking.look().since_written_s is None, "another has written it since"


def test_silence_is_measured_by_ones_own_clock_from_the_last_change_that_was_seen(looking: Looking) -> None:
    assert looking.look().view(NAME).silent_s == 0, "a new controller knows of no silence yet"
    looking.world.clock.elapsed_s += 40
    assert looking.look().view(NAME).silent_s == 40
    looking.world.fleet.agents[NAME].tick()
    assert looking.look().view(NAME).silent_s == 0


def test_how_old_an_instance_is_is_known_when_two_heartbeats_came_soon_after_each_other(looking: Looking) -> None:
    agent, clock = looking.world.fleet.agents[NAME], looking.world.clock

    def beats(after_s: float) -> bool:
        clock.elapsed_s += after_s
        agent.tick()
        return looking.look().view(NAME).is_live

    assert not looking.look().view(NAME).is_live, "it may have lain there for long"
    assert not beats(after_s=1), "it may have been long on its way"
    assert beats(after_s=1)
    assert not beats(after_s=LOOKS_APART_S + 1), "it may have lain there since the last look"
    assert not beats(after_s=1)
    assert beats(after_s=1)


def heartbeat(count: int, step: int = 0, activity: str = "", complaint: str = "") -> bytes:
    beat = Heartbeat(
        instance=NAME,
        count=count,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        state="restoring",
        generation=1,
        activity=activity,
        complaint=complaint,
        progress=TrainerProgress(step=step) if step else None,
    )
    return beat.model_dump_json().encode()


def test_an_instance_that_brings_images_for_long_is_not_stalled(looking: Looking) -> None:
    counts = count(100)

    def stalled_s(activity: str, complaint: str = "") -> float:
        looking.world.clock.elapsed_s += 40
        body = heartbeat(next(counts), activity=activity, complaint=complaint)
        looking.world.store.put(layout.heartbeat_key(NAME), body)
        return looking.look().view(NAME).stalled_s

    assert [stalled_s(f"bringing {done} of 9 files") for done in (1, 2, 2)] == [0, 0, 40]
    complaints = [stalled_s("bringing 2 of 9 files", complaint) for complaint in ("no answer", "no answer yet")]
    assert complaints == [80, 120], "it has not come further by complaining"


def test_a_heartbeat_that_comes_late_is_not_believed_and_one_that_counts_anew_is(looking: Looking) -> None:
    def seen(number: int, step: int) -> int:
        looking.world.store.put(layout.heartbeat_key(NAME), heartbeat(number, step))
        beat = looking.look().view(NAME).heartbeat
        assert beat is not None and beat.progress is not None
        return beat.progress.step

    assert [seen(100, 50), seen(99, 49), seen(101, 51)] == [50, 50, 51]
    assert [seen(1, 60), seen(2, 61), seen(3, 62)] == [51, 61, 62], "its agent has begun again"


def test_an_instance_is_seen_as_fleet_and_bucket_show_it(looking: Looking) -> None:
    observed = looking.look()
    view = observed.view(NAME)
    assert view.state is InstanceState.RUNNING
    assert view.heartbeat is not None
    assert view.heartbeat.generation == 1
    assert view.assignment is not None
    assert observed.offers == {"local": (Offer("local", "", "on_demand", 1.0),)}
    assert observed.view("unheard-of").state is None


def test_what_the_fleet_tells_of_an_instances_age_grows_until_it_is_gone_and_gone_is_gone(looking: Looking) -> None:
    said: list[Sighting] = []
    looking.world.fleet.describe = lambda _instances: {NAME: said[-1]}  # type: ignore[method-assign,assignment]

    def seen(sighting: Sighting) -> tuple[InstanceState | None, float | None, str]:
        said.append(sighting)
        looking.look()
        looking.world.clock.elapsed_s += 5
        view = looking.observer.observe(looking.watch, 1, ())[0].view(NAME)
        return view.state, view.lived_s, view.why_gone

    assert seen(Sighting(InstanceState.RUNNING, 60.0)) == (InstanceState.RUNNING, 65.0, "")
    assert seen(Sighting(InstanceState.GONE, 70.0, "reclaimed")) == (InstanceState.GONE, 70.0, "reclaimed")
    assert seen(Sighting(InstanceState.RUNNING, 62.0)) == (InstanceState.GONE, 70.0, "reclaimed"), "told late"


def test_a_submit_that_was_not_completed_is_no_job_yet(looking: Looking) -> None:
    looking.world.store.delete(layout.record_key("digits"))
    assert not looking.observer.load(looking.watch)


def test_a_heartbeat_that_cannot_be_read_is_said(looking: Looking) -> None:
    looking.world.store.put(layout.heartbeat_key(NAME), b"{")
    with pytest.raises(StoreError, match="is not a heartbeat"):
        looking.look()


def test_the_jobs_of_a_fleet_that_does_not_answer_are_told(looking: Looking) -> None:
    looking.look()

    def away(_instances: Iterable[str]) -> Mapping[str, Sighting]:
        raise FleetError("no answer")

    looking.world.fleet.describe = away  # type: ignore[method-assign,assignment]
    told: list[str] = []
    assert looking.observer.ask_fleets([looking.watch], lambda _job, message: told.append(message)) == {"digits"}
    assert told == ["the local fleet does not answer: no answer"]


def test_a_job_that_has_no_instance_any_more_is_not_held_by_the_silence_of_its_fleet(looking: Looking) -> None:
    looking.look()

    def away(_instances: Iterable[str]) -> Mapping[str, Sighting]:
        raise FleetError("no answer")

    def ask() -> str:
        looking.observer.ask_fleets([looking.watch], lambda _job, _message: None)
        return looking.watch.fleet_trouble

    looking.world.fleet.describe = away  # type: ignore[method-assign,assignment]
    assert ask() == ""
    looking.world.clock.elapsed_s += TELL_SILENCE_AFTER_S
    assert ask() == "the local fleet does not answer: no answer"
    stored = looking.watch.record.stored
    assert stored is not None
    looking.watch.record.wrote(replace(stored, value=stored.value.model_copy(update={"generation": None, "uses": ()})))
    assert ask() == ""
