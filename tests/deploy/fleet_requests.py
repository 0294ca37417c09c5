"""What the EC2 fleet asks of AWS, as IAM weighs it: gathered from the real fleet on an account of moto's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.fleets.ec2.client import make_clients
from orchestrator.fleets.ec2.fleet import Ec2Fleet
from orchestrator.fleets.protocol import LaunchRequest, Market
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.spec.models import Resources
from tests.deploy.conftest import Asked
from tests.deploy.stack_template import EC2_ARN, IMAGE_PARAMETER, REGION, ROLE, STORE, SUBNET, TEMPLATE

TYPE, UNLISTED = "g4dn.xlarge", "m5.large"
"""One whose size elastic knows, and one that it asks about."""
NAMES: Mapping[str, tuple[Market, str]] = {
    "digits-g1-n0-a0": ("spot", TYPE),
    "digits-g1-n1-a0": ("on_demand", UNLISTED),
}
_IAM_NAMES = {"service-quotas": "servicequotas"}


@dataclass(frozen=True)
class Weighed:
    """One thing that must be allowed for a request to be carried out."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def use_fleet(account: CloudAccount, store_identity: str, session: Any = None) -> None:
    """Everything that a controller does with the fleet: prices, a launch on each market, looking, ending."""
    fleet = Ec2Fleet(
        account,
        store_identity,
        make_clients(account.region, session),
        now=lambda: datetime(2026, 11, 28, tzinfo=UTC),
        monotonic=lambda: 0.0,
        log=lambda _words: None,
    )
    resources = Resources.model_validate({"fleet": "ec2", "ladder": [{"instance": TYPE, "count": 1, "workers": 1}]})
    offers = fleet.offers(resources, TYPE)
    for name, (market, instance_type) in NAMES.items():
        zone = next(offer.zone for offer in offers if offer.market == market)
        fleet.launch(LaunchRequest(name, "digits", 1, instance_type, 1, 4, 3600.0, zone=zone, market=market))
    assert {one.instance for one in fleet.owned()} == set(NAMES)
    assert set(fleet.describe(NAMES)) == set(NAMES)
    for name in NAMES:
        fleet.terminate(name)


def weighed(asked: Asked, account: CloudAccount) -> list[Weighed]:
    """What AWS weighs for these requests, in the template's names of things."""
    return [each for operation, params in asked.requests for each in _weighed(operation, params, account)]


def _weighed(operation: str, params: Mapping[str, Any], account: CloudAccount) -> Iterator[Weighed]:
    service, _, name = operation.partition(".")
    action = f"{_IAM_NAMES.get(service, service)}:{name}"
    match operation:
        case "ec2.RunInstances":
            yield from _of_launch(params, account)
        case "ec2.TerminateInstances":
            for instance_id in params["InstanceIds"]:
                yield Weighed(action, f"{EC2_ARN}:instance/{instance_id}", {"aws:ResourceTag/elastic:store": STORE})
        case "ssm.GetParameter":
            yield Weighed(action, IMAGE_PARAMETER)
        case _:
            yield Weighed(action, "*")


def _of_launch(params: Mapping[str, Any], account: CloudAccount) -> Iterator[Weighed]:
    """RunInstances is weighed for each thing that it makes or uses, and tagging and the role besides."""
    assert params["LaunchTemplate"]["LaunchTemplateId"] == account.launch_template_id
    assert params["SubnetId"] in account.subnets.values()
    assert params["SecurityGroupIds"] == [account.security_group_id]
    tags = {
        each["ResourceType"]: {tag["Key"]: tag["Value"] for tag in each["Tags"]} for each in params["TagSpecifications"]
    }
    context = {"ec2:LaunchTemplate": TEMPLATE, "ec2:MetadataHttpTokens": params["MetadataOptions"]["HttpTokens"]}
    made = ["instance", "volume", "network-interface"]
    if "InstanceMarketOptions" in params:
        made.append("spot-instances-request")
    for kind in made:
        named = {f"aws:RequestTag/{key}": value for key, value in tags.get(kind, {}).items()}
        yield Weighed("ec2:RunInstances", f"{EC2_ARN}:{kind}/*", {**context, **named})
        if kind in tags:
            yield Weighed("ec2:CreateTags", f"{EC2_ARN}:{kind}/*", {"ec2:CreateAction": "RunInstances", **named})
    for used in (
        TEMPLATE,
        SUBNET,
        f"{EC2_ARN}:security-group/sg-1",
        f"arn:aws:ec2:{REGION}::image/{params['ImageId']}",
    ):
        yield Weighed("ec2:RunInstances", used, context)
    yield Weighed("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"})
