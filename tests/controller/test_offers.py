"""Which offers are taken, in which order, and what follows when a fleet refuses them."""

import pytest

from orchestrator.controller.effects import Launch
from orchestrator.controller.launching import CAPACITY_RETRY_S
from orchestrator.controller.moving import TRY_SPOT_AFTER_S
from orchestrator.controller.observation import InstanceView, LaunchFailure
from orchestrator.controller.offers import ASIDE_S
from orchestrator.controller.recovery import QUOTA_BACKOFF_S
from orchestrator.fleets.protocol import LaunchRequest, Offer
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.spec.models import JobSpec, Resources
from tests.controller.builders import Scene
from tests.support.specs import job_spec

KIND = "g6.xlarge"
A, B = Offer(KIND, "a", "spot", 0.3), Offer(KIND, "b", "spot", 0.4)
DEAR_A, DEAR_B = Offer(KIND, "a", "on_demand", 0.8), Offer(KIND, "b", "on_demand", 0.8)
ALL = (A, B, DEAR_A, DEAR_B)
NONE_THERE = LaunchFailure("InsufficientInstanceCapacity", "capacity")
OVER_QUOTA = LaunchFailure("VcpuLimitExceeded", "quota")


def spec(*counts: int, **limits: float) -> JobSpec:
    """A job of rungs with so many instances."""
    ladder = [{"instance": KIND, "count": count, "workers": 1} for count in counts or (1,)]
    job = job_spec(limits=limits, scaling={"window": 4.0, "warm_up": 0.0, "cooldown": 30.0})
    return job.model_copy(update={"resources": Resources.model_validate({"fleet": "ec2", "ladder": ladder})})


def scene(*counts: int, offers: tuple[Offer, ...] = ALL, **limits: float) -> Scene:
    made = Scene(spec(*counts, **limits))
    made.offers = {KIND: offers}
    return made


def refuse(made: Scene, *offers: Offer, why: LaunchFailure = NONE_THERE) -> Scene:
    """From now on the fleet has none of these, and whatever else it has."""
    made.refused_offers = {(offer.zone, offer.market): why for offer in offers}
    return made


def requests(made: Scene) -> list[LaunchRequest]:
    return [effect.request for effect in made.effects if isinstance(effect, Launch)]


def asked(made: Scene) -> list[tuple[str, str]]:
    """Zone and market of each launch that was asked for, in order."""
    return [(request.zone, request.market) for request in requests(made)]


def trains_in(made: Scene) -> set[tuple[str, str]]:
    """Where the instances of the current generation are."""
    return {(slot.zone, slot.market) for slot in made.generation.slots}


def test_the_best_offer_is_in_slot_use_and_request_before_anything_is_launched() -> None:
    decision = scene().decide()
    [use], [launch] = decision.record.uses, [e for e in decision.effects if isinstance(e, Launch)]
    assert decision.record.upcoming is not None
    [slot] = decision.record.upcoming.slots
    assert (slot.zone, slot.market) == (launch.request.zone, launch.request.market) == ("a", "spot")
    assert (use.zone, use.market, use.usd_per_hour, use.instance_type) == ("a", "spot", 0.3, KIND)
    told = next(event for event in decision.record.outbox if event.kind is EventKind.PROVISIONING)
    assert (told.inputs["zone"], told.inputs["market"], told.inputs["usd_per_hour"]) == ("a", "spot", 0.3)


def test_where_money_is_limited_spot_may_not_become_dearer_than_was_counted_with() -> None:
    for limited in (scene(max_cost=10.0), scene(max_hourly_cost=10.0)):
        made = refuse(limited, A, B).settle()
        assert [request.max_usd_per_hour for request in requests(made)] == [0.3, 0.4, None]


def test_a_launch_tells_how_many_its_generation_needs() -> None:
    assert [request.count for request in requests(scene(3).settle())] == [3, 3, 3]


def test_without_a_limit_a_spot_price_may_rise() -> None:
    assert [request.max_usd_per_hour for request in requests(refuse(scene(), A, B).settle())] == [None] * 3


def test_what_is_refused_is_asked_of_the_next_offer_at_once_under_another_name() -> None:
    made = refuse(scene(), A, B).settle().come_up()
    assert asked(made) == [("a", "spot"), ("b", "spot"), ("a", "on_demand")]
    assert len({request.instance for request in requests(made)}) == 3
    assert trains_in(made) == {("a", "on_demand")}
    assert [use.usd_per_hour for use in made.record.uses] == [0.8], "what was refused costs nothing, nor is it reserved"
    assert made.record.retired == ()
    [first, _second] = [event for event in made.events if event.kind is EventKind.NO_CAPACITY]
    assert first.message == "spot in a: InsufficientInstanceCapacity; spot in b is tried next"
    assert (first.inputs["refusal"], first.inputs["next_usd_per_hour"]) == ("capacity", 0.4)


def test_a_refusal_of_which_it_is_not_certain_that_nothing_comes_of_it_is_ended_and_reserved_until_then() -> None:
    made = scene(max_cost=10.0)
    made.decide()
    [name] = made.upcoming.instances
    made.views[name] = InstanceView(launch_failure=NONE_THERE)
    made.lingering = {name}
    made.step()
    assert name in made.record.retired
    assert {use.instance for use in made.record.uses} == {name, *made.upcoming.instances}


def test_all_of_a_generation_are_in_one_zone() -> None:
    made = scene(3)
    made.decide()
    names = made.upcoming.instances
    made.views[names[2]] = InstanceView(launch_failure=NONE_THERE, never_was=True)
    made.settle()
    assert {(slot.zone, slot.market) for slot in made.upcoming.slots} == {("b", "spot")}
    assert not set(made.upcoming.instances) & set(names)
    assert set(names[:2]) <= set(made.terminated()), "who was there already is not left behind"


def test_what_is_lost_is_replaced_beside_those_that_are_kept() -> None:
    made = scene(2).settle().come_up().train(1)
    keeps, goes = made.generation.instances
    made.lose(goes).obey().pass_time(120).settle()
    assert made.upcoming.instances[0] == keeps
    assert {slot.zone for slot in made.upcoming.slots} == {"a"}


def test_where_nothing_more_is_to_be_had_beside_them_all_go_to_another_zone() -> None:
    made = scene(2).settle().come_up().train(1)
    keeps, goes = made.generation.instances
    refuse(made, A, DEAR_A).lose(goes).obey()
    made.pass_time(120).settle()
    assert {(slot.zone, slot.market) for slot in made.upcoming.slots} == {("b", "spot")}
    assert keeps in made.terminated()


def test_when_every_offer_was_refused_it_waits_ever_longer_and_begins_with_the_best_again() -> None:
    made = refuse(scene(), *ALL).settle()
    assert asked(made) == [(offer.zone, offer.market) for offer in ALL]
    assert made.record.reason == "waiting for capacity: on demand in b: InsufficientInstanceCapacity"
    wait_s = CAPACITY_RETRY_S * len(ALL)
    for _ in range(3):
        before = len(asked(made))
        made.pass_time(wait_s - 1).settle()
        assert len(asked(made)) == before
        made.pass_time(1).settle()
        assert asked(made)[before:] == [(offer.zone, offer.market) for offer in ALL]
        wait_s = min(60.0, wait_s * 2)
    told = [event.message for event in made.events if event.kind is EventKind.NO_CAPACITY]
    assert len(told) == len(ALL), "each offer once, then that it waits, and no more of it"
    refuse(made).pass_time(60).settle().come_up()
    assert trains_in(made) == {("a", "spot")}


def test_also_the_only_offer_is_asked_for_ever_more_rarely() -> None:
    made = refuse(scene(offers=(A,)), A).settle()
    asked_at_s = [0.0]
    while made.elapsed_s < 300.0:
        made.pass_time(CAPACITY_RETRY_S).settle()
        if len(asked(made)) > len(asked_at_s):
            asked_at_s.append(made.elapsed_s)
    assert asked_at_s == [0.0, 5.0, 15.0, 35.0, 75.0, 135.0, 195.0, 255.0]


def test_a_quota_that_is_used_up_closes_a_market_in_all_zones_for_long() -> None:
    made = refuse(scene(), A, B, why=OVER_QUOTA).settle()
    assert asked(made) == [("a", "spot"), ("a", "on_demand")]
    made.come_up().train(1).lose().pass_time(60).settle()
    assert asked(made)[2:] == [("a", "on_demand")]
    made.come_up().train(1).pass_time(ASIDE_S["quota"]).lose().pass_time(60).settle()
    assert asked(made)[3] == ("a", "spot")


def test_where_all_quotas_are_used_up_it_is_asked_again_only_after_long() -> None:
    made = refuse(scene(), *ALL, why=OVER_QUOTA).settle()
    assert asked(made) == [("a", "spot"), ("a", "on_demand")]
    made.pass_time(QUOTA_BACKOFF_S - 1).settle()
    assert len(asked(made)) == 2
    made.pass_time(1).settle()
    assert asked(made)[2:] == [("a", "spot"), ("a", "on_demand")]


def test_what_waits_costs_nothing() -> None:
    made = refuse(scene(max_cost=10.0), *ALL, why=OVER_QUOTA).settle().pass_time(QUOTA_BACKOFF_S - 1).settle()
    assert len(made.record.uses) == 1
    assert (made.record.spend_usd(made.now), made.record.usd_per_hour) == (0.0, 0.0)
    refuse(made).pass_time(1).settle().come_up().pass_time(60).settle()
    assert made.record.usd_per_hour == A.usd_per_hour
    assert made.record.spend_usd(made.now) >= A.usd_per_hour / 60


def test_what_no_waiting_helps_ends_a_job_that_has_nothing_and_leaves_one_that_trains_alone() -> None:
    forbidden = LaunchFailure("not authorized to run instances", "fatal")
    made = refuse(scene(), *ALL, why=forbidden).settle()
    assert made.is_in(JobPhase.FAILED)
    assert "not authorized to run instances" in made.record.reason
    assert (len(asked(made)), made.record.uses, made.record.retired) == (1, (), ())
    made = refuse(scene(1, 2).settle().come_up().train(1), *ALL, why=forbidden)
    made.train(50, percent=95.0, samples=50)
    assert made.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert made.record.upcoming is None


@pytest.mark.parametrize("kind", ["fatal", "capacity"])
def test_a_fleet_that_offers_nothing_says_why(kind: str) -> None:
    made = scene(offers=())
    made.no_offers = {KIND: LaunchFailure("g6.xlarge is not offered in a", "fatal" if kind == "fatal" else "capacity")}
    made.settle()
    assert made.is_in(JobPhase.FAILED if kind == "fatal" else JobPhase.PENDING)
    assert "g6.xlarge is not offered in a" in made.record.reason
    if kind == "capacity":
        made.offers, made.no_offers = {KIND: ALL}, {}
        assert made.pass_time(CAPACITY_RETRY_S).settle().come_up().is_in(JobPhase.RUNNING)


def test_a_zone_that_took_a_spot_instance_back_comes_last_of_its_market_for_a_while() -> None:
    made = scene().settle().come_up().train(1).lose()
    made.pass_time(60).settle().come_up().train(2)
    assert trains_in(made) == {("b", "spot")}
    refuse(made, B).lose().pass_time(60).settle().come_up().train(3)
    assert trains_in(made) == {("a", "spot")}, "last, but before what costs more"
    refuse(made).pass_time(ASIDE_S["interrupted"]).lose()
    made.pass_time(60).settle()
    assert made.upcoming.slots[0].zone == "b", "the last interruption counts, the first is forgotten"


def test_an_offer_that_costs_more_an_hour_than_it_may_is_passed_over() -> None:
    made = refuse(scene(max_hourly_cost=0.5), A, B).settle()
    assert asked(made) == [("a", "spot"), ("b", "spot")]
    assert made.is_in(JobPhase.PENDING)


def test_a_resize_that_every_offer_refuses_is_called_off() -> None:
    made = refuse(scene(1, 2).settle().come_up().train(1), *ALL)
    made.train(50, percent=95.0, samples=50)
    assert made.record.upcoming is None
    assert made.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    assert made.last(EventKind.NO_CAPACITY).message.startswith("rung 1 cannot be had: on demand in b")
    assert len(made.record.uses) == 1


# --- moves --------------------------------------------------------------------------------------------------------


def on_demand() -> Scene:
    """A job that trains on demand, for there was no spot instance."""
    made = refuse(scene(), A, B).settle().come_up().train(1)
    assert trains_in(made) == {("a", "on_demand")}
    return made


def test_a_job_on_demand_goes_back_to_spot_while_it_trains() -> None:
    made = refuse(on_demand())
    made.pass_time(TRY_SPOT_AFTER_S - 1).train(2)
    assert made.record.upcoming is None
    made.pass_time(1).train(3)
    assert (made.upcoming.cause, made.upcoming.rung) == ("move", 0)
    assert made.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
    told = made.last(EventKind.PROVISIONING)
    assert told.message == "spot in a for $0.300 an hour is tried while training goes on for $0.800"
    assert told.inputs["paid_usd_per_hour"] == 0.8
    made.come_up().commit(40).exit("drained", step=40).train(41)
    assert trains_in(made) == {("a", "spot")}
    assert made.record.resizes == 0


def test_spot_that_cannot_be_had_yet_is_left_alone_for_a_while_that_grows() -> None:
    made = on_demand()
    for tries in range(3):
        made.pass_time(TRY_SPOT_AFTER_S * 2**tries - 1).train(10)
        assert made.record.spot_tries == tries
        made.pass_time(1).train(11)
        assert made.record.spot_tries == tries + 1
        assert made.record.upcoming is None
        assert made.is_in(JobPhase.RUNNING, GenerationPhase.TRAINING)
        assert "training goes on on demand" in made.last(EventKind.NO_CAPACITY).message
        assert not made.record.unavailable_rungs, "its size may be had"


@pytest.mark.parametrize("market", ["spot", "on_demand"])
def test_who_does_not_want_to_change_markets_does_not(market: str) -> None:
    made = scene(offers=(DEAR_A,) if market == "on_demand" else (A,))
    resources = made.spec.resources.model_copy(update={"market": market})
    made.spec = made.spec.model_copy(update={"resources": resources})
    made.settle().come_up().train(1)
    made.offers = {KIND: ALL}
    made.pass_time(10 * TRY_SPOT_AFTER_S).train(2)
    assert made.record.upcoming is None


def test_spot_that_is_not_cheaper_is_not_gone_back_to() -> None:
    made = refuse(on_demand())
    made.offers = {KIND: (Offer(KIND, "a", "spot", 0.8), DEAR_A)}
    made.pass_time(10 * TRY_SPOT_AFTER_S).train(2)
    assert made.record.upcoming is None


@pytest.mark.parametrize("word", ["at risk", "announced"])
def test_what_may_soon_be_taken_back_is_left_before_it_is(word: str) -> None:
    made = scene().settle().come_up().train(1)
    [instance] = made.generation.instances
    told = {"at_risk": True} if word == "at risk" else {"ends_at": made.now}
    made.says(instance, "running", **told).settle()
    assert (made.upcoming.cause, made.upcoming.slots[0].zone) == ("preemption", "b")
    assert made.generation.phase is GenerationPhase.TRAINING
    assert made.last(EventKind.PROVISIONING).inputs["at_risk"] == instance
    refuse(made, *ALL).lose(*made.upcoming.instances)
    for _ in range(3):
        made.pass_time(10).says(instance, "running", **told).settle()
    assert made.record.upcoming is None
    assert made.kinds().count(EventKind.PROVISIONING) == 2, "what cannot be had is left alone for a while"
