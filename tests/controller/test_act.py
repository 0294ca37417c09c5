"""Effects: carried out twice they are carried out once, and an older leader's change nothing."""

from collections.abc import Callable

import pytest

from orchestrator.controller.act import Actor, Stale
from orchestrator.controller.decide import Decision
from orchestrator.controller.effects import Assign, DropRequest, Effect, Seal, Terminate
from orchestrator.controller.observe import JobWatch, Observer
from orchestrator.jobs import layout
from orchestrator.jobs.head import Superseded, load_head
from orchestrator.jobs.instances import Assignment
from orchestrator.store import Conflict, document
from tests.controller.world import World

NAME = "digits-g1-n0-a0"


class Acting:
    """One controller's hands on a job that trains."""

    def __init__(self) -> None:
        self.world = World().run(until=lambda world: world.step == 3)
        self.told: list[str] = []
        self.watch = JobWatch.of("digits")
        self._actor = Actor(self.world.store, self.world.nonce, lambda job, event: self.told.append(event.message))
        self._observer = Observer(self.world.store, {"local": self.world.fleet}, self.world.clock.monotonic)

    def carry_out(self, *effects: Effect, reason: str = "", before: Callable[[], object] = lambda: None) -> bool:
        """Look, then act on a decision with these effects and, with a reason, a changed record."""
        observed = self._observer.observe("digits", self.watch, 1)
        assert observed is not None
        seen, stored = observed
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


def test_ended_twice_is_ended_once_and_its_objects_are_gone(acting: Acting) -> None:
    for _ in range(2):
        acting.carry_out(Terminate(NAME))
        assert acting.world.fleet.alive() == []
        assert acting.world.objects() == []
    assert acting.watch.terminated == {NAME}


def test_a_request_that_is_gone_already_is_dropped_again_without_harm(acting: Acting) -> None:
    request = acting.world.ask("pause")
    for _ in range(2):
        acting.carry_out(DropRequest("digits", request))
    assert list(acting.world.store.list(layout.requests_prefix("digits"))) == []
