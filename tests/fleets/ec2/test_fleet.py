"""The EC2 fleet on an account: launch, describe, terminate, and what can go wrong between them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.fleets.ec2.fleet import Ec2Fleet
from orchestrator.fleets.ec2.user_data import user_data
from orchestrator.fleets.protocol import FleetError, InstanceState, LaunchError
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.rehearsal.account import Account
from orchestrator.rehearsal.refusals import Shortages
from tests.support.moto_ec2 import CREDENTIALS, Bench, answer_xml, decoded, lose_reply, request, set_up

NAME = "job-g1-n0-a0"


def mine(bench: Bench) -> list[str]:
    """The ids of all instances that were ever started for this bench's store."""
    return [entry.id for entry in bench.aws.ledger() if entry.tags.get("elastic:store") == bench.identity]


def state_of(bench: Bench, instance_id: str) -> str:
    """In EC2's words."""
    return next(entry.state for entry in bench.aws.ledger() if entry.id == instance_id)


def test_an_instance_from_launch_to_end(bench: Bench) -> None:
    assert bench.fleet.describe([NAME]) == {}

    instance_id = bench.launched(NAME)
    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    bench.aws.booted(instance_id)
    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.RUNNING

    bench.fleet.terminate(NAME)
    # It shuts down for a while, and runs until then: its workers may still write.
    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.RUNNING
    bench.aws.ended(instance_id)
    gone = bench.fleet.describe([NAME])[NAME]
    assert (gone.state, gone.why) == (InstanceState.GONE, "it was told to end")
    bench.fleet.terminate(NAME)  # nothing to do


def test_what_is_sent_is_what_must_hold_though_the_template_said_otherwise(bench: Bench, account: CloudAccount) -> None:
    bench.launched(NAME)
    (sent,) = bench.requests("RunInstances")

    assert (sent["MinCount"], sent["MaxCount"]) == ("1", "1")
    assert sent["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert (sent["MetadataOptions.HttpTokens"], sent["MetadataOptions.HttpPutResponseHopLimit"]) == ("required", "1")
    assert sent["MetadataOptions.InstanceMetadataTags"] == "enabled"
    assert sent["InstanceMarketOptions.MarketType"] == "spot"
    assert sent["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert sent["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"
    assert sent["SubnetId"] == account.subnets["us-east-1a"]
    assert sent["LaunchTemplate.Version"] == "1"
    for resource in ("1", "2"):
        tags = {
            sent[f"TagSpecification.{resource}.Tag.{i}.Key"]: sent[f"TagSpecification.{resource}.Tag.{i}.Value"]
            for i in range(1, 6)
        }
        assert tags == {
            "Name": NAME,
            "elastic:store": bench.identity,
            "elastic:job": "job",
            "elastic:instance": NAME,
            "elastic:generation": "1",
        }
    assert {sent["TagSpecification.1.ResourceType"], sent["TagSpecification.2.ResourceType"]} == {"instance", "volume"}


def test_the_user_data_that_is_sent_is_the_instances_program_and_no_secret(bench: Bench, account: CloudAccount) -> None:
    bench.launched(NAME)
    sent = decoded(bench.requests("RunInstances")[0]["UserData"])

    assert sent == user_data(request(NAME), account)
    assert not any(secret in sent for secret in CREDENTIALS.values())


def test_spot_is_asked_for_at_no_more_than_was_counted_with(bench: Bench) -> None:
    bench.fleet.launch(request("job-g1-n0-a0", max_usd_per_hour=0.3219))
    bench.fleet.launch(request("job-g1-n0-a1"))

    prices = [sent.get("InstanceMarketOptions.SpotOptions.MaxPrice") for sent in bench.requests("RunInstances")]
    assert prices == ["0.321900", None]


def test_on_demand_asks_for_no_spot(bench: Bench) -> None:
    bench.launched(NAME, market="on_demand", max_usd_per_hour=0.8048)

    assert not any(name.startswith("InstanceMarketOptions") for name in bench.requests("RunInstances")[0])


def test_launched_twice_is_launched_once(bench: Bench) -> None:
    bench.fleet.launch(request(NAME))
    bench.fleet.launch(request(NAME))
    bench.another_fleet().launch(request(NAME))

    assert len(mine(bench)) == 1
    assert len({sent["ClientToken"] for sent in bench.requests("RunInstances")}) == 1


def test_many_threads_may_ask_at_once(bench: Bench) -> None:
    """A controller looks after sixteen jobs side by side, with one fleet."""
    names = [f"job-g1-n{slot}-a0" for slot in range(4)]

    def work(name: str) -> InstanceState:
        bench.fleet.launch(request(name))
        return bench.fleet.describe(names)[name].state

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(work, names * 3)) == {InstanceState.STARTING}
    assert len(mine(bench)) == 4
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(bench.fleet.terminate, names * 2))
    assert {state_of(bench, one) for one in mine(bench)} == {"shutting-down"}


def test_a_new_attempt_is_a_new_instance(bench: Bench) -> None:
    bench.fleet.launch(request("job-g1-n0-a0"))
    bench.fleet.launch(request("job-g1-n0-a1"))

    assert len(mine(bench)) == 2


def test_two_stores_in_one_account_have_each_their_own(bench: Bench, account: CloudAccount) -> None:
    other = Bench(bench.aws, account)
    bench.launched(NAME)

    assert other.fleet.describe([NAME]) == {}
    other.fleet.launch(request(NAME))
    assert len(mine(bench)) == len(mine(other)) == 1
    other.fleet.terminate(NAME)
    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.STARTING


def test_done_and_the_reply_lost_is_asked_again_and_is_one_instance(bench: Bench) -> None:
    lose_reply(bench.clients.launch, "RunInstances")

    with pytest.raises(FleetError):
        bench.fleet.launch(request(NAME))
    bench.fleet.launch(request(NAME))

    assert len(mine(bench)) == 1
    assert len(bench.requests("RunInstances")) == 2  # nothing but the controller sends a launch again


def test_after_a_lost_reply_only_ec2_itself_may_refuse(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first may have been done: 'nothing was started' would be a lie, and the instance an orphan."""
    lose_reply(bench.clients.launch, "RunInstances")
    with pytest.raises(FleetError):
        bench.fleet.launch(request(NAME))

    def refuse(*_: object) -> None:
        raise LaunchError("no quota", kind="quota")

    monkeypatch.setattr("orchestrator.fleets.ec2.quotas.Quotas.check", refuse)
    bench.fleet.launch(request(NAME))
    assert len(mine(bench)) == 1


def test_an_account_set_up_anew_between_two_launches_of_a_name(bench: Bench, account: CloudAccount) -> None:
    bench.launched(NAME)
    again = Bench(bench.aws, account.model_copy(update={"package_key": "9" * 64 + "/e.whl"}), bench.identity)

    again.fleet.launch(request(NAME))  # IdempotentParameterMismatch: it is there already

    assert len(mine(bench)) == 1


def test_a_launch_that_was_made_otherwise_and_is_not_shown_is_taken(bench: Bench) -> None:
    """It may be hours ago, and EC2 has forgotten it: asked for again and again it would never come."""
    answer_xml(bench.clients.launch, "RunInstances", (400, "IdempotentParameterMismatch", "Arguments are inconsistent"))

    bench.fleet.launch(request(NAME))
    assert bench.fleet.describe([NAME]) == {}
    assert "launched before with other settings" in bench.said[-1]


def test_what_ended_before_its_launch_was_asked_for_again_is_gone_though_ec2_has_forgotten_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lid is closed while it is launched, it idles out, and an hour later the lid is opened again."""
    instance_id = bench.launched(NAME)
    bench.fleet.terminate(NAME)
    bench.aws.ended(instance_id)
    later = bench.another_fleet()
    monkeypatch.setattr(Ec2Fleet, "_find", lambda *_: {})

    def as_it_is_now(parsed: dict[str, Any], **_: object) -> None:  # moto answers as it did at first
        parsed["Instances"][0] |= {"State": {"Name": "terminated", "Code": 48}}
        parsed["Instances"][0] |= {"StateReason": {"Code": "Client.InstanceInitiatedShutdown", "Message": ""}}

    bench.clients.launch.meta.events.register_first("after-call.ec2.RunInstances", as_it_is_now)
    later.launch(request(NAME))

    assert mine(bench) == [instance_id]
    gone = later.describe([NAME])[NAME]
    assert (gone.state, gone.why) == (InstanceState.GONE, "the instance shut itself down")


def test_a_describe_that_lags_is_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent for a while after the launch; ended all the same when that is asked for meanwhile."""
    instance_id = bench.launched(NAME)
    monkeypatch.setattr("orchestrator.fleets.ec2.fleet.read_page", lambda _page: [])

    assert bench.fleet.describe([NAME]) == {}
    assert bench.fleet.lag_s >= 300
    bench.fleet.terminate(NAME)

    assert state_of(bench, instance_id) == "shutting-down"


def test_ending_what_ec2_does_not_know_yet_does_nothing(bench: Bench) -> None:
    instance_id = bench.launched(NAME)
    answer_xml(bench.clients.ec2, "TerminateInstances", (400, "InvalidInstanceID.NotFound", "does not exist"))

    bench.fleet.terminate(NAME)
    assert state_of(bench, instance_id) == "pending"
    bench.fleet.terminate(NAME)
    assert state_of(bench, instance_id) == "shutting-down"


def test_a_spot_instance_that_aws_takes_back(bench: Bench) -> None:
    instance_id = bench.launched(NAME)
    bench.aws.booted(instance_id)
    bench.aws.take_back(instance_id)
    bench.aws.ended(instance_id)

    gone = bench.fleet.describe([NAME])[NAME]
    assert (gone.state, gone.why) == (InstanceState.GONE, "AWS took the spot instance back")
    assert gone.lived_s is not None and gone.lived_s < 60


def test_an_instance_that_shuts_itself_down_is_terminated(bench: Bench) -> None:
    instance_id = bench.launched(NAME)
    bench.aws.booted(instance_id)
    bench.aws.shut_down(instance_id)
    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.RUNNING
    bench.aws.ended(instance_id)

    assert bench.fleet.describe([NAME])[NAME].why == "the instance shut itself down"


def test_it_has_lived_by_awss_clock_until_it_ended(bench: Bench) -> None:
    instance_id = bench.launched(NAME)
    alive = bench.fleet.describe([NAME])[NAME]
    bench.fleet.terminate(NAME)
    bench.aws.ended(instance_id)
    time.sleep(1.1)  # the Date header counts whole seconds: what is counted on must show
    gone = bench.fleet.describe([NAME])[NAME]
    entry = next(e for e in bench.aws.ledger() if e.id == instance_id)

    assert alive.lived_s is not None and gone.lived_s is not None and entry.ended_at is not None
    assert gone.lived_s == pytest.approx((entry.ended_at - entry.launched_at).total_seconds(), abs=1)


def test_one_that_shuts_down_for_long_is_gone_and_lived_until_it_was_first_seen_to(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reclaim does not say when: neither EC2's slow end nor a later look makes it dearer."""
    instance_id = bench.launched(NAME)
    bench.aws.booted(instance_id)
    bench.aws.take_back(instance_id)
    before = bench.fleet.describe([NAME])[NAME]
    time.sleep(1.1)  # the Date header counts whole seconds: what is counted on must show
    monkeypatch.setattr("orchestrator.fleets.ec2.sightings.SHUTDOWN_TAKES", timedelta(0))
    after = bench.fleet.describe([NAME])[NAME]

    assert state_of(bench, instance_id) == "shutting-down"
    assert (before.state, after.state) == (InstanceState.RUNNING, InstanceState.GONE)
    assert (after.lived_s, after.why) == (before.lived_s, "AWS took the spot instance back")


def launch_a_second(bench: Bench) -> None:
    """Of the same name, by whoever knows how it is tagged."""
    bench.clients.ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        ImageId="ami-12c6146b",
        InstanceType="g6.xlarge",
        ClientToken=f"another-{bench.identity}",
        TagSpecifications=[
            {
                "ResourceType": "instance",
                "Tags": [
                    {"Key": "elastic:store", "Value": bench.identity},
                    {"Key": "elastic:instance", "Value": NAME},
                ],
            }
        ],
    )


def test_two_of_one_name_become_one(bench: Bench) -> None:
    """It cannot be, by the token; should it be all the same, both would train as one."""
    bench.launched(NAME)
    launch_a_second(bench)

    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    assert sorted(state_of(bench, one) for one in mine(bench)) == ["pending", "shutting-down"]
    assert bench.another_fleet().describe([NAME])[NAME].state is InstanceState.STARTING
    assert sorted(state_of(bench, one) for one in mine(bench)) == ["pending", "shutting-down"]
    assert "a second instance of job-g1-n0-a0" in bench.said[-1]


def test_a_second_one_that_cannot_be_ended_hides_nothing(bench: Bench) -> None:
    """It may be protected: all jobs of EC2 would stand still for it."""
    bench.launched(NAME)
    launch_a_second(bench)
    refused = (400, "OperationNotPermitted", "The instance may not be terminated. Modify its 'disableApiTermination'.")
    answer_xml(bench.clients.ec2, "TerminateInstances", refused)

    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    assert "runs on, and costs money: EC2's TerminateInstances in us-east-1 failed" in bench.said[-1]
    assert [state_of(bench, one) for one in mine(bench)] == ["pending", "pending"]


def test_an_instance_whose_tags_were_taken_away_is_known_by_its_token(bench: Bench) -> None:
    instance_id = bench.launched(NAME)
    bench.clients.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": "elastic:store"}, {"Key": "elastic:instance"}])

    assert bench.another_fleet().describe([NAME])[NAME].state is InstanceState.STARTING
    bench.another_fleet().terminate(NAME)
    assert state_of(bench, instance_id) == "shutting-down"


def test_more_instances_than_a_page_holds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.fleets.ec2.fleet._PAGE", 5)
    names = [f"job-g1-n{slot}-a0" for slot in range(12)]
    for name in names:
        bench.fleet.launch(request(name))
    before = len(bench.requests("DescribeInstances"))

    assert bench.fleet.describe(names).keys() == set(names)
    assert len(bench.requests("DescribeInstances")) - before == 3
    assert {one.instance for one in bench.fleet.owned()} == set(names)


def test_more_names_than_a_filter_takes_are_asked_for_by_store(bench: Bench) -> None:
    bench.launched(NAME)
    names = [NAME, *(f"job-g{g}-n0-a0" for g in range(2, 302))]

    assert bench.fleet.describe(names).keys() == {NAME}
    for sent in bench.requests("DescribeInstances"):
        assert not any(name.endswith("Value.201") for name in sent)


def test_owned_is_all_that_costs_whatever_the_records_say(bench: Bench) -> None:
    kept, ended = bench.launched("job-g1-n0-a0"), bench.launched("job-g1-n1-a0", zone="us-east-1b", market="on_demand")
    gone = bench.launched("job-g1-n2-a0")
    bench.fleet.terminate("job-g1-n1-a0")
    bench.fleet.terminate("job-g1-n2-a0")
    bench.aws.ended(gone)

    owned = {one.instance_id: one for one in bench.another_fleet().owned()}
    assert owned.keys() == {kept, ended}
    assert (owned[kept].job, owned[kept].zone, owned[kept].market) == ("job", "us-east-1a", "spot")
    assert (owned[ended].zone, owned[ended].market, owned[ended].state) == ("us-east-1b", "on_demand", "shutting-down")
    bench.fleet.end(kept)
    assert state_of(bench, kept) == "shutting-down"


SHORTAGES: dict[str, tuple[Shortages, str]] = {
    "no capacity in the zone": (Shortages(capacity={"us-east-1a"}), "capacity"),
    "no capacity for the type": (Shortages(capacity={"g6.xlarge"}), "capacity"),
    "no spot quota": (Shortages(quota={"spot"}), "quota"),
}


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_shortage_is_sent_once_and_starts_nothing(bench: Bench, shortage: str) -> None:
    short, kind = SHORTAGES[shortage]
    bench.aws.set_shortages(short)

    with pytest.raises(LaunchError) as caught:
        bench.fleet.launch(request(NAME))

    assert caught.value.kind == kind
    assert len(bench.requests("RunInstances")) == 1
    assert mine(bench) == []


def test_throttled_looks_come_through_by_themselves(bench: Bench) -> None:
    bench.launched(NAME)
    bench.aws.set_shortages(Shortages(throttled=True))

    assert bench.fleet.describe([NAME])[NAME].state is InstanceState.STARTING


def test_the_ami_is_looked_up_where_a_parameter_names_it(aws: Account) -> None:
    account = set_up(ami=None, ami_parameter="/aws/service/ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2")
    bench = Bench(aws, account)
    bench.launched(NAME)

    assert bench.requests("RunInstances")[0]["ImageId"].startswith("ami-")


def test_a_parameter_that_is_not_there_is_told(aws: Account) -> None:
    bench = Bench(aws, set_up(ami=None, ami_parameter="/my/own/ami"))

    with pytest.raises(LaunchError, match="no SSM parameter /my/own/ami in us-east-1") as caught:
        bench.fleet.launch(request(NAME))
    assert caught.value.kind == "fatal"


REFUSED_BEFORE: dict[str, tuple[Callable[[Bench], None], str]] = {
    "a zone without a subnet": (lambda b: b.fleet.launch(request(zone="us-east-1f")), "no subnet in us-east-1f"),
    "a type of no zone": (
        lambda b: b.fleet.launch(request(instance_type="g9.xlarge")),
        "g9.xlarge is not offered in us-east-1a, us-east-1b, us-east-1c; choose another type or region",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED_BEFORE)
def test_what_cannot_be_is_refused_before_anything_is_sent(bench: Bench, mistake: str) -> None:
    launch, message = REFUSED_BEFORE[mistake]

    with pytest.raises(LaunchError, match=message) as caught:
        launch(bench)

    assert caught.value.kind == "fatal"
    assert bench.requests("RunInstances") == []
