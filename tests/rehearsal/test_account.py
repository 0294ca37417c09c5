"""The account on loopback keeps what AWS documents, also where moto alone does not."""

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from orchestrator.fleets.ec2.prices import read_on_demand
from orchestrator.rehearsal.account import Account, LedgerEntry
from orchestrator.rehearsal.prices import Prices
from orchestrator.rehearsal.refusals import Shortages
from tests.rehearsal.conftest import IMAGE, SPOT, client, run_instance


def entry(account: Account, instance_id: str) -> LedgerEntry:
    return next(entry for entry in account.ledger() if entry.id == instance_id)


def described(ec2: Any, instance_id: str) -> Any:
    return ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]


def refused(call: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_the_same_token_is_the_same_instance_also_after_its_end(ec2: Any, account: Account) -> None:
    first = run_instance(ec2, ClientToken="job-g1-s0-a0")
    assert run_instance(ec2, ClientToken="job-g1-s0-a0") == first
    ec2.terminate_instances(InstanceIds=[first])
    assert run_instance(ec2, ClientToken="job-g1-s0-a0") == first
    assert run_instance(ec2, ClientToken="job-g1-s0-a1") != first


def test_the_same_token_with_something_else_is_refused(ec2: Any) -> None:
    run_instance(ec2, ClientToken="changed")
    call = lambda: run_instance(ec2, zone="us-east-1b", ClientToken="changed")  # noqa: E731
    assert refused(call) == (400, "IdempotentParameterMismatch")


def test_a_known_token_is_answered_also_when_there_is_no_capacity_left(ec2: Any, account: Account) -> None:
    first = run_instance(ec2, ClientToken="before the shortage")
    account.set_shortages(Shortages(capacity={"us-east-1a"}))
    assert run_instance(ec2, ClientToken="before the shortage") == first


@pytest.mark.parametrize("short", ["us-east-1b", "g4dn.xlarge", "g4dn.xlarge@us-east-1b"])
def test_no_capacity_by_zone_or_type(ec2: Any, account: Account, short: str) -> None:
    account.set_shortages(Shortages(capacity={short}))
    before = len(account.ledger())
    call = lambda: run_instance(ec2, zone="us-east-1b", ClientToken=f"short of {short}")  # noqa: E731
    assert refused(call) == (500, "InsufficientInstanceCapacity")
    assert len(account.ledger()) == before
    run_instance(ec2, zone="us-east-1a", InstanceType="g5.xlarge")


def test_the_zone_of_a_subnet_counts(ec2: Any, account: Account) -> None:
    subnets = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1c"]}])["Subnets"]
    account.set_shortages(Shortages(capacity={"us-east-1c"}))
    asked = {"ImageId": IMAGE, "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1}
    call = lambda: ec2.run_instances(SubnetId=subnets[0]["SubnetId"], **asked)  # noqa: E731
    assert refused(call) == (500, "InsufficientInstanceCapacity")


def test_no_quota_by_market(ec2: Any, account: Account) -> None:
    account.set_shortages(Shortages(quota={"spot"}))
    call = lambda: run_instance(ec2, InstanceMarketOptions=SPOT)  # noqa: E731
    assert refused(call) == (400, "MaxSpotInstanceCountExceeded")
    run_instance(ec2)
    account.set_shortages(Shortages(quota={"on_demand"}))
    assert refused(lambda: run_instance(ec2)) == (400, "VcpuLimitExceeded")
    run_instance(ec2, InstanceMarketOptions=SPOT)


def test_throttled_requests_come_through_when_asked_again(ec2: Any, account: Account) -> None:
    account.set_shortages(Shortages(throttled=True))
    outcomes = []
    for _ in range(20):
        try:
            ec2.describe_instances()
            outcomes.append("answered")
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])
    assert set(outcomes) == {"answered", "RequestLimitExceeded"}


def test_a_launch_template_gives_profile_metadata_options_and_what_shutdown_means(ec2: Any, account: Account) -> None:
    iam = client(account, "iam")
    iam.create_instance_profile(InstanceProfileName="agents")
    data = {
        "ImageId": IMAGE,
        "IamInstanceProfile": {"Name": "agents"},
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"},
        "InstanceInitiatedShutdownBehavior": "terminate",
    }
    ec2.create_launch_template(LaunchTemplateName="agents", LaunchTemplateData=data)
    asked = {"InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1}
    launched = ec2.run_instances(LaunchTemplate={"LaunchTemplateName": "agents"}, **asked)["Instances"][0]
    found = described(ec2, launched["InstanceId"])
    assert found["IamInstanceProfile"]["Arn"].endswith("/agents")
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert entry(account, launched["InstanceId"]).has_role
    account.shut_down(launched["InstanceId"])
    assert described(ec2, launched["InstanceId"])["State"]["Name"] == "shutting-down"


def test_the_life_of_an_instance(ec2: Any, account: Account) -> None:
    instance = run_instance(ec2, UserData="#!/bin/bash\necho hello\n")
    assert described(ec2, instance)["State"]["Name"] == "pending"
    account.booted(instance)
    assert described(ec2, instance)["State"]["Name"] == "running"
    ec2.terminate_instances(InstanceIds=[instance])
    assert described(ec2, instance)["State"]["Name"] == "shutting-down"
    ended_at = entry(account, instance).ended_at
    ec2.terminate_instances(InstanceIds=[instance])
    account.ended(instance)
    ec2.terminate_instances(InstanceIds=[instance])
    found = described(ec2, instance)
    assert found["State"]["Name"] == "terminated"
    assert found["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert ended_at is not None
    assert found["StateTransitionReason"] == f"User initiated ({ended_at:%Y-%m-%d %H:%M:%S} GMT)"
    last = entry(account, instance)
    assert (last.ended_at, last.user_data) == (ended_at, "#!/bin/bash\necho hello\n")
    assert abs(found["LaunchTime"] - last.launched_at) < timedelta(seconds=1)


def test_a_spot_instance_is_taken_back_and_another_breaks(ec2: Any, account: Account) -> None:
    spot, other = run_instance(ec2, InstanceMarketOptions=SPOT), run_instance(ec2)
    for instance in (spot, other):
        account.take_back(instance)
        account.ended(instance)
    assert described(ec2, spot)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert described(ec2, other)["StateReason"]["Code"] == "Server.InternalError"


def test_who_was_launched_to_stop_stops_and_is_not_gone(ec2: Any, account: Account) -> None:
    instance = run_instance(ec2, InstanceInitiatedShutdownBehavior="stop")
    account.shut_down(instance)
    found = described(ec2, instance)
    assert (found["State"]["Name"], found["StateReason"]["Code"]) == ("stopped", "Client.InstanceInitiatedShutdown")


def test_spot_prices_are_what_instances_then_cost(ec2: Any, account: Account) -> None:
    account.set_prices(Prices(spot={"g5.xlarge": {"us-east-1b": 0.2345}}))
    asked = {"InstanceTypes": ["g5.xlarge"], "ProductDescriptions": ["Linux/UNIX"]}
    history = ec2.describe_spot_price_history(**asked)["SpotPriceHistory"]
    prices = {line["AvailabilityZone"]: float(line["SpotPrice"]) for line in history}
    assert prices["us-east-1a"] == pytest.approx(0.4 * 1.006)
    assert prices["us-east-1b"] == 0.2345
    assert prices["us-east-1c"] > prices["us-east-1a"]
    instance = run_instance(ec2, zone="us-east-1b", InstanceType="g5.xlarge", InstanceMarketOptions=SPOT)
    assert entry(account, instance).usd_per_hour == 0.2345
    account.set_prices(Prices())
    assert entry(account, instance).usd_per_hour == 0.2345
    assert entry(account, run_instance(ec2, InstanceType="g5.xlarge")).usd_per_hour == 1.006


def test_an_instance_type_that_is_not_offered_is_refused(ec2: Any) -> None:
    status, code = refused(lambda: run_instance(ec2, InstanceType="g9.gigantic"))
    assert status == 400, code


def test_a_stack_and_its_parameters(account: Account) -> None:
    template = {"Resources": {"Role": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"GroupDescription": "none"}}}}
    cloudformation = client(account, "cloudformation")
    cloudformation.create_stack(StackName="elastic", TemplateBody=json.dumps(template))
    assert cloudformation.describe_stacks(StackName="elastic")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"


def test_the_price_list_knows_what_on_demand_costs(account: Account) -> None:
    account.set_prices(Prices(on_demand={"g5.xlarge": 1.5}))
    filters = [{"Type": "TERM_MATCH", "Field": "instanceType", "Value": "g5.xlarge"}]
    answer = client(account, "pricing").get_products(ServiceCode="AmazonEC2", Filters=filters)
    assert read_on_demand(answer["PriceList"]) == 1.5
    account.set_prices(Prices())
