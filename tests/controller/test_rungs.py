"""Another rung, where the one that is wanted cannot be had and nothing runs."""

from orchestrator.controller.effects import Launch
from orchestrator.controller.launching import CAPACITY_RETRY_S
from orchestrator.controller.moving import TRY_SPOT_AFTER_S
from orchestrator.controller.observation import InstanceView, LaunchFailure
from orchestrator.controller.recovery import QUOTA_BACKOFF_S
from orchestrator.fleets.protocol import LaunchRequest, Offer
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import GenerationPhase, JobPhase
from orchestrator.spec.models import Resources
from tests.controller.builders import Scene
from tests.support.specs import job_spec

G6, G5 = "g6.xlarge", "g5.xlarge"
NONE_THERE, OVER_QUOTA = LaunchFailure("there is none", "capacity"), LaunchFailure("VcpuLimitExceeded", "quota")


class Scarce(Scene):
    """A job on EC2, whose ladder has so many instances of these types; not all of them are to be had."""

    def __init__(self, *ladder: tuple[str, int], **limits: float) -> None:
        job = job_spec(limits=limits)
        rungs = [{"instance": kind, "count": count, "workers": 1} for kind, count in ladder]
        super().__init__(
            job.model_copy(update={"resources": Resources.model_validate({"fleet": "ec2", "ladder": rungs})})
        )
        self.lacking: dict[str, LaunchFailure] = {}
        """By type: why there is none."""
        self.there = 99
        """How many may be there at once."""
        self.offers = {
            kind: (Offer(kind, "a", "spot", usd), Offer(kind, "a", "on_demand", 2 * usd))
            for kind, usd in ((G6, 0.3), (G5, 0.4))
        }

    def refuses(self, request: LaunchRequest) -> LaunchFailure | None:
        full = NONE_THERE if len(self.alive()) >= self.there else None
        return self.lacking.get(request.instance_type, full)

    def types(self) -> list[str]:
        """The type of each launch that was asked for, in order."""
        return [effect.request.instance_type for effect in self.effects if isinstance(effect, Launch)]

    def runs_on(self) -> tuple[str, int]:
        rung = self.spec.resources.ladder[self.generation.rung]
        return rung.instance, rung.count


def test_another_type_is_taken_at_once_when_one_is_exhausted() -> None:
    made = Scarce((G6, 1), (G5, 1))
    made.lacking = {G6: NONE_THERE}
    made.settle().come_up().train(1)
    assert made.types() == [G6, G6, G5]
    assert made.runs_on() == (G5, 1)
    told = made.last(EventKind.NO_CAPACITY)
    assert told.message == "on demand in a: there is none; 1 × g5.xlarge, spot in a, is tried next"
    assert (told.inputs["rung"], told.inputs["next_rung"], told.inputs["next_usd_per_hour"]) == (0, 1, 0.4)
    assert made.alive() == set(made.generation.instances)


def test_smaller_ones_are_tried_before_larger_ones() -> None:
    made = Scarce((G5, 1), (G6, 2), (G5, 4))
    made.settle().come_up().train(1).ask("resize", 2).settle().come_up()
    made.exit("drained", step=1).ask("resize").settle().train(2)
    assert made.runs_on() == (G6, 2)
    made.lacking = {G6: NONE_THERE}
    made.lose().pass_time(60).settle().come_up().train(3)
    assert made.runs_on() == (G5, 1)


def test_fewer_of_the_same_type_may_be_had_where_all_are_not() -> None:
    made = Scarce((G6, 1), (G6, 2))
    made.settle().come_up().train(1).ask("resize", 2).settle().come_up()
    made.exit("drained", step=1).ask("resize").settle().train(2)
    assert made.runs_on() == (G6, 2)
    made.there = 1
    made.lose().pass_time(60).settle().come_up().train(3)
    assert made.runs_on() == (G6, 1)
    assert made.alive() == set(made.generation.instances)


def test_when_no_rung_can_be_had_it_waits_and_begins_with_the_first_again() -> None:
    made = Scarce((G6, 1), (G5, 1))
    made.lacking = {G6: NONE_THERE, G5: NONE_THERE}
    made.settle()
    assert made.types() == [G6, G6, G5, G5]
    assert made.is_in(JobPhase.PENDING)
    made.pass_time(4 * CAPACITY_RETRY_S - 1).settle()
    assert len(made.types()) == 4
    made.pass_time(1).settle()
    assert made.types()[4:] == [G6, G6, G5, G5]
    made.lacking = {}
    made.pass_time(60).settle().come_up()
    assert made.runs_on() == (G6, 1)
    assert made.kinds().count(EventKind.NO_CAPACITY) == 4, "each offer once, then that it waits, and no more of it"
    assert len({effect.request.instance for effect in made.effects if isinstance(effect, Launch)}) == len(made.types())


def test_a_type_over_its_quota_does_not_keep_another_from_being_asked_for_again_soon() -> None:
    made = Scarce((G6, 1), (G5, 1))
    made.lacking = {G6: OVER_QUOTA, G5: NONE_THERE}
    made.settle().pass_time(60).settle().pass_time(60).settle()
    assert made.types() == [G6, G6, *3 * [G5, G5]]
    made.lacking = {G6: OVER_QUOTA, G5: OVER_QUOTA}
    made.pass_time(60).settle()
    before = len(made.types())
    made.pass_time(QUOTA_BACKOFF_S - 1).settle()
    assert len(made.types()) == before
    made.pass_time(1).settle()
    assert made.types()[before:] == [G6, G6, G5, G5]


def test_the_size_that_a_person_wants_is_waited_for() -> None:
    made = Scarce((G6, 1), (G5, 2))
    made.settle().come_up().train(1).ask("resize", 1).settle()
    made.lacking = {G6: NONE_THERE}
    made.lose()
    for _ in range(4):
        made.pass_time(60).settle()
    assert set(made.types()) == {G6}


def test_a_larger_one_that_is_too_dear_is_not_taken() -> None:
    made = Scarce((G6, 1), (G5, 2), max_hourly_cost=0.7)
    made.lacking = {G6: NONE_THERE}
    for _ in range(4):
        made.settle().pass_time(60)
    assert set(made.types()) == {G6}
    made = Scarce((G6, 1), (G5, 2), max_hourly_cost=0.8)
    made.lacking = {G6: NONE_THERE}
    made.settle().come_up()
    assert made.is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
    assert made.runs_on() == (G5, 2)


def test_what_a_move_wanted_on_spot_is_taken_on_demand_once_nothing_runs() -> None:
    made = Scarce((G6, 1))
    spot, dear = made.offers[G6]
    made.offers = {G6: (dear,)}
    made.settle().come_up().train(1)
    made.offers = {G6: (spot, dear)}
    made.pass_time(TRY_SPOT_AFTER_S)
    made.decide()
    [coming] = made.upcoming.instances
    assert made.upcoming.market == "spot"
    made.refused_offers = {("a", "spot"): NONE_THERE}
    made.views[coming] = InstanceView(launch_failure=NONE_THERE, never_was=True)
    made.lose(*made.generation.instances)
    assert made.upcoming.slots[0].market == "on_demand"
    assert made.come_up().is_in(JobPhase.RUNNING, GenerationPhase.STARTING)
