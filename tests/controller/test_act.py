"""Effects: carried out twice they are carried out once, and an older leader's change nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count

import pytest

from orchestrator.controller.act import END_AGAIN_S, LAUNCH_TAKES_S, UNDO_TRIES, Actor, Stale
from orchestrator.controller.decide import Decision
from orchestrator.controller.effects import Assign, DropRequest, Effect, Forget, Launch, Seal, Terminate
from orchestrator.controller.observe import Observer
from orchestrator.controller.todo import Todo
from orchestrator.controller.watch import JobWatch
from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError, LaunchRequest, Sighting
from orchestrator.jobs import layout
from orchestrator.jobs.head import Superseded, load_head
from orchestrator.jobs.instances import Assignment
from orchestrator.jobs.pace import QUICK
from orchestrator.store import Conflict, document
from tests.controller.world import World

NAME = "digits-g1-n0-a0"


class Acting:
    """One controller's hands on a job that trains."""

    def __init__(self) -> None:
        self.world = World().run(until=lambda world: world.step == 3)
        self.told: list[str] = []
        self.watch = JobWatch.of("digits")
        self.leads = True
        self._todo = Todo(self.world.store, self.world.clock.monotonic, QUICK, self.world.log.append)
        self._actor = Actor(
            self.world.store,
            self.world.nonce,
            self.world.clock.monotonic,
            lambda: self.leads,
            self._todo.drop,
            lambda job, event: self.told.append(event.message),
        )
        self._observer = Observer(self.world.store, {"local": self.world.fleet}, self.world.clock.monotonic)

    def carry_out(self, *effects: Effect, reason: str = "", before: Callable[[], object] = lambda: None) -> bool:
        """Look, then act on a decision with these effects and, with a reason, a changed record."""
        assert self._observer.load(self.watch)
        self._observer.ask_fleets([self.watch], lambda _job, _message: None)
        self._observer.read_news(self.watch, 1)
        seen, stored = self._observer.observe(self.watch, 1, ())
        before()
        record = seen.record.model_copy(update={"reason": reason}) if reason else seen.record
        return self._actor.act(seen, stored, Decision(record, effects), self.watch, self.world.fleet)

    def assignment(self) -> Assignment:
        stored = document.load(self.world.store, layout.assignment_key(NAME), Assignment)
        assert stored is not None
        return stored.value


@pytest.fixture
def acting() -> Acting:
    return Acting()


def test_nothing_to_do_is_said(acting: Acting) -> None:
    assert not acting.carry_out()
    assert acting.carry_out(reason="changed")
    assert acting.world.record.reason == "changed"


@pytest.mark.parametrize(("epoch", "generation"), [(0, 1), (1, 0)])
def test_an_assignment_of_an_older_leader_or_generation_is_not_written(
    acting: Acting, epoch: int, generation: int
) -> None:
    before = acting.assignment()
    older = before.model_copy(update={"epoch": epoch, "generation": generation, "action": "drain"})
    with pytest.raises(Stale, match="epoch 1 to generation 1"):
        acting.carry_out(Assign(NAME, older))
    assert acting.assignment() == before


def test_the_same_order_is_not_written_again(acting: Acting) -> None:
    before = acting.assignment()
    acting.carry_out(Assign(NAME, before.model_copy(update={"seq": 99, "nonce": "another"})))
    assert acting.assignment() == before
    acting.carry_out(Assign(NAME, before.model_copy(update={"action": "drain"})))
    assert (acting.assignment().action, acting.assignment().seq) == ("drain", before.seq + 1)


def test_effects_are_carried_out_only_if_the_record_could_be_written(acting: Acting) -> None:
    """Somebody else has written it since it was read: the whole decision is void."""
    stored = document.load(acting.world.store, layout.record_key("digits"), type(acting.world.record))
    assert stored is not None

    def meanwhile() -> None:
        document.swap(acting.world.store, layout.record_key("digits"), stored, stored.value, lambda: "another")

    with pytest.raises(Conflict):
        acting.carry_out(Terminate(NAME), reason="mine", before=meanwhile)
    assert acting.world.fleet.alive() == [NAME]
    assert acting.world.record.reason != "mine"


def test_a_seal_of_an_older_generation_is_refused(acting: Acting) -> None:
    with pytest.raises(Superseded):
        acting.carry_out(Seal("digits", 1, 0))
    stored = load_head(acting.world.store, "digits")
    assert stored is not None
    assert stored.value.generation == 1


def test_an_instance_is_ended_until_it_is_gone_and_then_its_objects_are_removed(acting: Acting) -> None:
    assert acting.carry_out(Terminate(NAME))
    assert acting.world.fleet.alive() == []
    assert not acting.watch.terminated, "the fleet has not been asked since"
    assert acting.carry_out(Terminate(NAME))
    assert acting.watch.terminated == {NAME}
    for _ in range(2):
        acting.carry_out(Forget(NAME))
        assert acting.world.objects() == []


def test_an_instance_that_takes_its_time_to_end_is_told_again_only_after_a_while(acting: Acting) -> None:
    told: list[str] = []
    acting.world.fleet.terminate = told.append  # type: ignore[method-assign,assignment]  # it does nothing
    carried_out = [acting.carry_out(Terminate(NAME)) for _ in range(5)]
    assert carried_out == [True, False, False, False, False]
    acting.world.clock.elapsed_s += END_AGAIN_S
    assert acting.carry_out(Terminate(NAME))
    assert told == [NAME, NAME]


def test_an_instance_that_cannot_be_ended_now_keeps_nothing_else_from_being_done(acting: Acting) -> None:
    def refuse(instance: str) -> None:
        raise FleetError(f"{instance} is protected")

    acting.world.fleet.terminate = refuse  # type: ignore[method-assign]
    drained = acting.assignment().model_copy(update={"action": "drain"})
    with pytest.raises(FleetError, match=f"{NAME} is protected"):
        acting.carry_out(Terminate(NAME), Terminate("another"), Seal("digits", 1, 2), Assign(NAME, drained))
    stored = load_head(acting.world.store, "digits")
    assert stored is not None
    assert stored.value.generation == 2
    assert acting.assignment().action == "drain"


def gone_only_after_seventy_five_seconds(acting: Acting, instance: str) -> None:
    """The fleet, which may lag by sixty, does not show it."""
    for _ in range(3):
        acting.watch.saw(instance, None, acting.world.clock.monotonic())
        acting.carry_out(Terminate(instance))
        assert not acting.watch.terminated
        acting.world.clock.elapsed_s += 25
    acting.carry_out(Terminate(instance))
    assert acting.watch.terminated == {instance}


def test_an_instance_that_the_fleet_does_not_know_yet_is_not_taken_for_gone(acting: Acting) -> None:
    unknown = "digits-g9-n0-a0"
    acting.world.fleet.lag_s = 60.0
    gone_only_after_seventy_five_seconds(acting, unknown)


def test_an_instance_that_came_late_is_gone_only_when_it_is_absent_for_long_since_it_was_shown(acting: Acting) -> None:
    late = "digits-g9-n0-a0"
    acting.world.fleet.lag_s = 60.0
    acting.carry_out(Terminate(late))
    acting.world.clock.elapsed_s += 50
    acting.watch.saw(late, Sighting(InstanceState.STARTING), acting.world.clock.monotonic())
    gone_only_after_seventy_five_seconds(acting, late)


def test_an_instance_that_is_heard_though_the_fleet_does_not_show_it_is_not_taken_for_gone(acting: Acting) -> None:
    late = "digits-g9-n0-a0"
    acting.world.fleet.lag_s = 60.0
    acting.carry_out(Terminate(late))
    acting.world.clock.elapsed_s += 170
    acting.watch.lives(late, acting.world.clock.monotonic())
    gone_only_after_seventy_five_seconds(acting, late)


def test_an_instance_that_shows_itself_after_it_was_taken_for_gone_is_ended_again(acting: Acting) -> None:
    late = "digits-g9-n0-a0"
    acting.carry_out(Terminate(late))
    acting.carry_out(Terminate(late))
    assert acting.watch.terminated == {late}
    acting.watch.saw(late, Sighting(InstanceState.STARTING), acting.world.clock.monotonic())
    told: list[str] = []
    acting.world.fleet.terminate = told.append  # type: ignore[method-assign,assignment]
    acting.carry_out(Terminate(late))
    assert (told, acting.watch.terminated) == ([late], set())


def test_who_has_lost_the_lease_does_nothing_more(acting: Acting) -> None:
    acting.leads = False
    assert not acting.carry_out(Terminate(NAME))
    assert acting.world.fleet.alive() == [NAME]


def test_before_a_launch_that_was_decided_earlier_the_record_is_read_again(acting: Acting) -> None:
    """An older leader, that only thinks it leads, starts nothing that a newer one has called off."""
    request = replace(acting.world.fleet.agents[NAME].request, instance="digits-g1-n9-a0")
    stored = document.load(acting.world.store, layout.record_key("digits"), type(acting.world.record))
    assert stored is not None

    def meanwhile() -> None:
        document.swap(acting.world.store, layout.record_key("digits"), stored, stored.value, lambda: "another")

    with pytest.raises(Conflict):
        acting.carry_out(Launch(request), before=meanwhile)
    assert acting.world.fleet.launches == [NAME]


def test_what_was_launched_just_now_is_not_asked_for_again(acting: Acting) -> None:
    request = replace(acting.world.fleet.agents[NAME].request, instance="digits-g1-n9-a0")
    assert [acting.carry_out(Launch(request)) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("error", [LaunchError("none there", kind="capacity"), FleetError("no answer")])
def test_where_one_cannot_be_launched_those_beside_it_are_not_either(acting: Acting, error: Exception) -> None:
    requests = [replace(acting.world.fleet.agents[NAME].request, instance=f"digits-g1-n{n}-a0") for n in (7, 8, 9)]
    asked: list[str] = []

    def launch(request: LaunchRequest) -> None:
        asked.append(request.instance)
        if request is requests[1]:
            raise error

    acting.world.fleet.launch = launch  # type: ignore[method-assign]
    with suppress(FleetError):
        acting.carry_out(*map(Launch, requests), Seal("digits", 1, 2))
    assert asked == [request.instance for request in requests[:2]]
    stored = load_head(acting.world.store, "digits")
    assert stored is not None
    assert stored.value.generation == 2


@pytest.mark.parametrize("refused", [0, UNDO_TRIES - 1])
@pytest.mark.parametrize("answer", ["started", "unclear"])
def test_a_launch_that_took_so_long_that_it_was_called_off_meanwhile_is_undone(
    acting: Acting, answer: str, refused: int
) -> None:
    request = replace(acting.world.fleet.agents[NAME].request, instance="digits-g1-n9-a0")
    launch, terminate, tries = acting.world.fleet.launch, acting.world.fleet.terminate, count()

    def refuse(instance: str) -> None:
        if next(tries) < refused:
            raise FleetError("slow down")
        terminate(instance)

    def slow(asked: LaunchRequest) -> None:
        acting.world.clock.elapsed_s += LAUNCH_TAKES_S + 1
        launch(asked)
        if answer == "unclear":
            raise FleetError("no answer")

    acting.world.fleet.launch = slow  # type: ignore[method-assign,assignment]
    acting.world.fleet.terminate = refuse  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="called off by somebody else"):
        acting.carry_out(Launch(request))
    assert acting.world.fleet.launches == [NAME, request.instance]
    assert acting.world.fleet.alive() == [NAME]


def test_a_launch_that_took_long_and_is_wanted_still_stays(acting: Acting) -> None:
    request = acting.world.fleet.agents.pop(NAME).request
    launch = acting.world.fleet.launch

    def slow(asked: LaunchRequest) -> None:
        acting.world.clock.elapsed_s += LAUNCH_TAKES_S + 1
        launch(asked)

    acting.world.fleet.launch = slow  # type: ignore[method-assign,assignment]
    assert acting.carry_out(Launch(request))
    assert acting.world.fleet.alive() == [NAME]


def test_a_request_that_is_gone_already_is_dropped_again_without_harm(acting: Acting) -> None:
    request = acting.world.ask("pause")
    for _ in range(2):
        acting.carry_out(DropRequest("digits", request))
    assert list(acting.world.store.list(layout.requests_prefix("digits"))) == []
