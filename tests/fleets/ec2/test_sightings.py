"""What DescribeInstances' answers mean: by AWS's clock, in AWS's words, for names that may have several instances."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from orchestrator.fleets.ec2.sightings import Seen, by_name, read_page, superfluous
from orchestrator.fleets.protocol import InstanceState, Sighting

LAUNCHED = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
DATE = "Sat, 28 Nov 2026 12:10:00 GMT"


def page(date: str | None = DATE, **facts: Any) -> dict[str, Any]:
    instance = {
        "InstanceId": "i-1",
        "InstanceType": "g6.xlarge",
        "LaunchTime": LAUNCHED,
        "State": {"Name": "running", "Code": 16},
        "ClientToken": "token",
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "Tags": [{"Key": "elastic:instance", "Value": "a-g1-n0-a0"}, {"Key": "elastic:job", "Value": "a"}],
        **facts,
    }
    headers = {} if date is None else {"date": date}
    return {"ResponseMetadata": {"HTTPHeaders": headers}, "Reservations": [{"Instances": [instance]}]}


def seen(**facts: Any) -> Seen:
    (one,) = read_page(page(**facts))
    return one


def ended(code: str, transition: str = "", message: str = "") -> Seen:
    return seen(
        State={"Name": "terminated", "Code": 48},
        StateReason={"Code": code, "Message": message},
        StateTransitionReason=transition,
    )


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("pending", InstanceState.STARTING),
        ("running", InstanceState.RUNNING),
        ("shutting-down", InstanceState.RUNNING),  # its workers may still write
        ("stopping", InstanceState.RUNNING),
        ("stopped", InstanceState.RUNNING),  # its volume costs money until it is terminated
        ("terminated", InstanceState.GONE),
    ],
)
def test_a_state_in_ec2s_words(state: str, told: InstanceState) -> None:
    assert seen(State={"Name": state, "Code": 0}).sighting().state is told


def test_an_instance_has_lived_until_the_answer_was_given() -> None:
    assert seen().sighting() == Sighting(InstanceState.RUNNING, lived_s=600.0)


def test_who_does_not_say_when_does_not_say_for_how_long() -> None:
    assert seen(date=None).sighting().lived_s is None
    assert seen(date="yesterday").sighting().lived_s is None


def test_a_launch_that_lies_ahead_is_no_negative_time() -> None:
    assert seen(LaunchTime=LAUNCHED + timedelta(hours=1)).sighting().lived_s == 0


def test_one_that_is_gone_has_lived_until_it_was_told_to_end() -> None:
    gone = ended("Client.UserInitiatedShutdown", "User initiated (2026-11-28 12:05:30 GMT)").sighting()
    assert gone == Sighting(InstanceState.GONE, lived_s=330.0, why="it was told to end")


def test_where_ec2_does_not_say_when_it_ended_the_first_look_at_its_end_bounds_it() -> None:
    reclaimed = ended("Server.SpotInstanceTermination", "Server.SpotInstanceTermination")
    assert reclaimed.was_reclaimed
    assert reclaimed.sighting().lived_s is None
    assert reclaimed.sighting(ending_since=LAUNCHED + timedelta(seconds=90)).lived_s == 90


def shutting_down(at: datetime, transition: str = "") -> Seen:
    """One that is told to end at 12:05:30, as it is seen at this time."""
    return seen(
        date=format_datetime(at, usegmt=True),
        State={"Name": "shutting-down", "Code": 32},
        StateReason={"Code": "Server.SpotInstanceTermination", "Message": ""},
        StateTransitionReason=transition,
    )


END = LAUNCHED + timedelta(seconds=330)


def test_who_shuts_down_works_for_a_while_but_is_not_paid_for() -> None:
    just_now = shutting_down(END + timedelta(seconds=60), "User initiated (2026-11-28 12:05:30 GMT)").sighting()
    assert just_now == Sighting(InstanceState.RUNNING, lived_s=330.0)


@pytest.mark.parametrize("transition", ["User initiated (2026-11-28 12:05:30 GMT)", "Server.SpotInstanceTermination"])
def test_who_shuts_down_for_minutes_works_no_more(transition: str) -> None:
    """An instance with GPUs is called shutting-down for long after its last process has ended."""
    at_last = shutting_down(END + timedelta(seconds=91), transition).sighting(ending_since=END)
    assert at_last == Sighting(InstanceState.GONE, lived_s=330.0, why="AWS took the spot instance back")


def test_without_any_time_only_terminated_is_gone() -> None:
    assert shutting_down(END + timedelta(hours=1)).sighting().state is InstanceState.RUNNING


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("Server.SpotInstanceTermination", "AWS took the spot instance back"),
        ("Client.InstanceInitiatedShutdown", "the instance shut itself down"),
        ("Server.InsufficientInstanceCapacity", "AWS had no capacity for it after all"),
        ("Client.InternalError", "check the rights on the KMS key"),
        ("Server.SomethingNew", "Server.SomethingNew: whatever it is"),
    ],
)
def test_why_it_ended(code: str, why: str) -> None:
    assert why in ended(code, message=f"{code}: whatever it is").sighting().why


def test_a_spot_instance_is_known_by_its_lifecycle() -> None:
    assert (seen().market, seen(InstanceLifecycle="spot").market) == ("on_demand", "spot")


def one(instance_id: str, *, state: str = "running", age_s: int = 0, name: str = "a", token: str = "t-a") -> Seen:
    at = LAUNCHED - timedelta(seconds=age_s)
    return Seen(instance_id, name, "job", token, state, "g6.xlarge", "z", "spot", launched_at=at, at=LAUNCHED)


def test_of_several_of_one_name_the_oldest_that_lives_counts() -> None:
    found = by_name(
        [one("i-3", age_s=1), one("i-2", age_s=9), one("i-1", age_s=99, state="terminated"), one("i-4", age_s=5)],
        {"t-a": "a"},
    )
    assert [s.instance_id for s in found["a"]] == ["i-2", "i-4", "i-3", "i-1"]
    assert superfluous(found["a"]) == ["i-4", "i-3"]


def test_one_that_ends_does_not_count_beside_one_that_lives() -> None:
    found = by_name([one("i-1", age_s=9, state="shutting-down"), one("i-2")], {"t-a": "a"})
    assert [s.instance_id for s in found["a"]] == ["i-2", "i-1"]
    assert superfluous(found["a"]) == []


def test_which_counts_does_not_depend_on_the_order_of_the_answer() -> None:
    twins = [one("i-2"), one("i-1")]
    assert [s.instance_id for s in by_name(twins, {"t-a": "a"})["a"]] == ["i-1", "i-2"]
    assert by_name(twins, {"t-a": "a"}) == by_name(reversed(twins), {"t-a": "a"})


def test_the_same_instance_on_two_pages_is_one() -> None:
    found = by_name([one("i-1", state="pending"), one("i-1")], {"t-a": "a"})
    assert [(s.instance_id, s.state) for s in found["a"]] == [("i-1", "running")]
    assert superfluous(found["a"]) == []


def test_a_token_tells_where_a_tag_was_taken_away_or_changed() -> None:
    names = {"t-a": "a", "t-b": "b"}
    assert by_name([one("i-1", name="")], names).keys() == {"a"}
    assert by_name([one("i-1", name="b")], names).keys() == {"a"}
    assert by_name([one("i-1", name="a", token="")], names).keys() == {"a"}
    assert by_name([one("i-1", name="c", token="t-c")], names) == {}
