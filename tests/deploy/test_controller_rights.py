"""The rights of a controller in EC2 suffice for what the fleet asks, each is needed, and they reach no further.

What is asked comes from the real fleet; how AWS would weigh it is worked out here, conditions and all, for moto weighs
neither conditions nor resources of EC2 (see `test_rights_on_moto`).
"""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.deploy.conftest import an_account, made_account, noting_requests
from tests.deploy.fleet_requests import Weighed, use_fleet, weighed
from tests.deploy.policy_evaluation import is_allowed
from tests.deploy.stack_template import EC2_ARN, REGION, ROLE, STORE, SUBNET, TEMPLATE, statements

ABOUT_THE_STORE = ("UseStore", "ListStore")
SIDS = [each["Sid"] for each in statements("ControllerPolicy") if each["Sid"] not in ABOUT_THE_STORE]
LAUNCH = {
    "ec2:LaunchTemplate": TEMPLATE,
    "ec2:MetadataHttpTokens": "required",
    "aws:RequestTag/elastic:store": STORE,
}


@pytest.fixture(scope="module")
def asked() -> list[Weighed]:
    """All that is weighed when a controller uses its fleet."""
    with an_account():
        _, made = made_account()
        with noting_requests() as requests:
            use_fleet(made.account, STORE)
    return weighed(requests, made.account)


def refused(asked: Sequence[Weighed], policy: Sequence[Any]) -> list[Weighed]:
    return [each for each in asked if not is_allowed(policy, each.action, each.resource, each.context)]


def test_nothing_that_the_fleet_asks_is_refused_and_each_statement_is_needed(asked: list[Weighed]) -> None:
    policy = statements("ControllerPolicy")
    assert refused(asked, policy) == []
    for sid in SIDS:
        assert refused(asked, [each for each in policy if each["Sid"] != sid]), f"nothing needs {sid}"


def test_not_even_a_single_action_is_there_for_nothing(asked: list[Weighed]) -> None:
    for statement in statements("ControllerPolicy"):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        for action in actions:
            if statement["Sid"] not in ABOUT_THE_STORE:
                assert action in {each.action for each in asked}, f"the fleet never asks for {action}"


@pytest.mark.parametrize(
    ("action", "resource", "context"),
    [
        (
            "ec2:RunInstances",
            f"{EC2_ARN}:instance/*",
            {**LAUNCH, "ec2:LaunchTemplate": f"{EC2_ARN}:launch-template/lt-2"},
        ),
        ("ec2:RunInstances", f"{EC2_ARN}:instance/*", {**LAUNCH, "ec2:MetadataHttpTokens": "optional"}),
        ("ec2:RunInstances", f"{EC2_ARN}:instance/*", {**LAUNCH, "aws:RequestTag/elastic:store": "another"}),
        ("ec2:RunInstances", f"{EC2_ARN}:instance/*", {}),
        ("ec2:RunInstances", f"{EC2_ARN}:security-group/sg-2", LAUNCH),
        ("ec2:RunInstances", f"{EC2_ARN}:subnet/subnet-2", LAUNCH),
        ("ec2:RunInstances", SUBNET.replace(REGION, "eu-west-1"), LAUNCH),
        ("ec2:TerminateInstances", f"{EC2_ARN}:instance/i-1", {}),
        ("ec2:TerminateInstances", f"{EC2_ARN}:instance/i-1", {"aws:ResourceTag/elastic:store": "another"}),
        ("ec2:CreateTags", f"{EC2_ARN}:instance/i-1", {}),
        ("ec2:StopInstances", f"{EC2_ARN}:instance/i-1", {"aws:ResourceTag/elastic:store": STORE}),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/admin", {"iam:PassedToService": "ec2.amazonaws.com"}),
        ("iam:PassRole", ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:123456789012:parameter/password", {}),
    ],
)
def test_a_controller_reaches_no_further_than_its_own_instances(
    action: str, resource: str, context: dict[str, str]
) -> None:
    assert not is_allowed(statements("ControllerPolicy"), action, resource, context)
