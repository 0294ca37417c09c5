"""A stack that cannot be made or changed: which resource failed first, why, and what to do; no traceback."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.cloud_setup import stack as stacks
from orchestrator.cloud_setup.clients import open_clients
from orchestrator.errors import CredentialsError, ElasticError, UsageError
from tests.cli.conftest import Elastic
from tests.deploy.conftest import answering
from tests.deploy.stack_template import ACCOUNT

STACK = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/elastic/1"
BEGUN = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOT_THERE = (400, {"Error": {"Code": "ValidationError", "Message": "Stack with id elastic does not exist"}})
USER = f"User: arn:aws:iam::{ACCOUNT}:user/anna"
DENIED = (
    f"{USER} is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::{ACCOUNT}:role/r (Service: Iam)"
)
TAKEN = "elastic-bucket already exists (Service: S3, Status Code: 0)"


def event(seconds: int, resource: str, status: str, why: str = "", physical: str = "x") -> dict[str, Any]:
    return {
        "EventId": f"{resource}-{seconds}",
        "StackId": STACK,
        "StackName": "elastic",
        "LogicalResourceId": resource,
        "PhysicalResourceId": physical,
        "Timestamp": BEGUN + timedelta(seconds=seconds),
        "ResourceStatus": status,
        **({"ResourceStatusReason": why} if why else {}),
    }


def failed_by(resource: str, why: str) -> list[dict[str, Any]]:
    """The events of a stack that was being made, newest first as AWS gives them; an older failure was another try's."""
    return [
        event(90, "elastic", "DELETE_COMPLETE", physical=STACK),
        event(40, "elastic", "DELETE_IN_PROGRESS", f"The following resource(s) failed to create: [{resource}]", STACK),
        event(31, "SecurityGroup", "CREATE_FAILED", "Resource creation cancelled"),
        event(30, resource, "CREATE_FAILED", why),
        event(9, "InstanceRole", "CREATE_COMPLETE"),
        event(2, "elastic", "CREATE_IN_PROGRESS", "User Initiated", STACK),
        event(1, "elastic", "REVIEW_IN_PROGRESS", "User Initiated", STACK),
        event(-900, "LaunchTemplate", "CREATE_FAILED", "of the day before"),
    ]


def attempt(bootstrap: Elastic, events: list[dict[str, Any]]) -> tuple[int, str]:
    """Make a stack whose making goes like this; it is gone afterwards, as AWS was asked to see to."""
    with (
        answering("cloudformation.ExecuteChangeSet", lambda _params: (200, {})),
        answering("cloudformation.DescribeStacks", lambda _params: (NOT_THERE[0], dict(NOT_THERE[1]))),
        answering("cloudformation.DescribeStackEvents", lambda _params: (200, {"StackEvents": list(events)})),
    ):
        outcome = bootstrap()
    assert outcome.out == ""
    return outcome.code, outcome.err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("resource", "why", "code", "words"),
    [
        ("InstanceRole", DENIED, CredentialsError.exit_code, "lack iam:CreateRole; add to their policy: {"),
        ("Bucket", TAKEN, UsageError.exit_code, "name another with --bucket"),
        ("LaunchTemplate", "Value (gp9) is invalid.", ElasticError.exit_code, "LaunchTemplate failed: Value (gp9) is"),
    ],
)
def test_the_first_resource_that_failed_is_named_with_its_reason(
    bootstrap: Elastic, resource: str, why: str, code: int, words: str
) -> None:
    exit_code, said = attempt(bootstrap, failed_by(resource, why))
    assert exit_code == code
    assert said.startswith(f"error: The stack could not be made and was removed again: {resource} failed")
    assert words in said and "cancelled" not in said and "day before" not in said


def test_what_is_made_is_told_as_it_comes(bootstrap: Elastic) -> None:
    with (
        answering("cloudformation.ExecuteChangeSet", lambda _params: (200, {})),
        answering("cloudformation.DescribeStacks", lambda _params: (NOT_THERE[0], dict(NOT_THERE[1]))),
        answering("cloudformation.DescribeStackEvents", lambda _params: (200, {"StackEvents": failed_by("B", "no")})),
    ):
        told = bootstrap().err
    assert told.index("InstanceRole: create complete") < told.index("B: create failed")
    assert "LaunchTemplate" not in told


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("UPDATE_IN_PROGRESS", "is being changed at this moment (UPDATE_IN_PROGRESS): wait"),
        ("ROLLBACK_COMPLETE", "was never made whole (ROLLBACK_COMPLETE): remove it with elastic bootstrap --destroy"),
        ("DELETE_FAILED", "remove it with elastic bootstrap --destroy"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name elastic"),
    ],
)
def test_a_stack_that_cannot_be_changed_now(bootstrap: Elastic, status: str, words: str) -> None:
    stack = {"StackName": "elastic", "StackId": STACK, "StackStatus": status, "CreationTime": BEGUN}
    with answering("cloudformation.DescribeStacks", lambda _params: (200, {"Stacks": [stack]})):
        outcome = bootstrap()
    assert outcome.code == ElasticError.exit_code
    assert words in outcome.err


def test_what_aws_does_not_take_is_told_before_anything_is_done(bootstrap: Elastic) -> None:
    refused = {"Status": "FAILED", "StatusReason": "Parameter VolumeGiB failed to satisfy constraint", "Changes": []}
    with answering("cloudformation.DescribeChangeSet", lambda _params: (200, dict(refused))):
        outcome = bootstrap()
    assert outcome.code == ElasticError.exit_code
    assert "AWS refuses what the stack elastic is to be: Parameter VolumeGiB failed" in outcome.err


def test_a_change_is_read_with_what_it_replaces(bootstrap: Elastic) -> None:
    assert bootstrap().code == 0
    change = {
        "Type": "Resource",
        "ResourceChange": {
            "Action": "Modify",
            "LogicalResourceId": "LaunchTemplate",
            "ResourceType": "AWS::EC2::LaunchTemplate",
            "Replacement": "True",
            "Details": [
                {"Target": {"Attribute": "Properties", "Name": "LaunchTemplateData"}},
                {"Target": {"Attribute": "Tags"}},
            ],
        },
    }
    pages: list[dict[str, Any]] = [
        {"Status": "CREATE_COMPLETE", "Changes": [change], "NextToken": "t"},
        {"Status": "CREATE_COMPLETE"},
    ]
    with answering("cloudformation.DescribeChangeSet", lambda params: (200, dict(pages["NextToken" in params]))):
        outcome = bootstrap("--diff", "--ami", "ami-12c6146b")
    assert outcome.code == 0
    assert outcome.out.split() == [
        *("CHANGE", "RESOURCE", "TYPE", "WHAT", "Replace", "LaunchTemplate", "AWS::EC2::LaunchTemplate"),
        *("LaunchTemplateData,", "Tags"),
    ]


def test_a_stack_that_cannot_be_removed_says_why(bootstrap: Elastic) -> None:
    assert bootstrap().code == 0
    stuck = {"StackName": "elastic", "StackId": STACK, "StackStatus": "CREATE_COMPLETE", "CreationTime": BEGUN}
    asked: list[str] = []

    def describe(params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append(params["StackName"])
        return 200, {"Stacks": [{**stuck, "StackStatus": "DELETE_FAILED" if len(asked) > 1 else "CREATE_COMPLETE"}]}

    events = [
        event(20, "SecurityGroup", "DELETE_FAILED", "resource sg-1 has a dependent object"),
        event(1, "elastic", "DELETE_IN_PROGRESS", "User Initiated", STACK),
    ]
    with (
        answering("cloudformation.DescribeStacks", describe),
        answering("cloudformation.DeleteStack", lambda _params: (200, {})),
        answering("cloudformation.DescribeStackEvents", lambda _params: (200, {"StackEvents": list(events)})),
    ):
        outcome = bootstrap("--destroy", "--yes")
    assert outcome.code == ElasticError.exit_code
    assert "SecurityGroup failed: resource sg-1 has a dependent object." in outcome.err


def carry_out(statuses: list[str]) -> tuple[stacks.Stack, list[float]]:
    """Carry out a change set of a stack that is in one state after the other; gives the pauses too."""
    left, pauses = list(statuses), list[float]()

    def describe(_params: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status = left.pop(0) if len(left) > 1 else left[0]
        outputs = [{"OutputKey": "LaunchTemplateId", "OutputValue": "lt-1"}]
        stack = {"StackName": "elastic", "StackId": STACK, "StackStatus": status, "CreationTime": BEGUN}
        return 200, {"Stacks": [{**stack, "Outputs": outputs}]}

    with (
        answering("cloudformation.ExecuteChangeSet", lambda _params: (200, {})),
        answering("cloudformation.DescribeStacks", describe),
        answering("cloudformation.DescribeStackEvents", lambda _params: (200, {"StackEvents": []})),
    ):
        planned = stacks.Plan(STACK, "change-set", makes=True, changes=())
        clients = open_clients(None, "us-east-1", {})
        return stacks.carry_out(clients, planned, pauses.append, lambda _words: None), pauses


def test_a_stack_is_waited_for(aws: str) -> None:
    stack, pauses = carry_out(["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    assert (stack.status, stack.outputs) == ("CREATE_COMPLETE", {"LaunchTemplateId": "lt-1"})
    assert pauses == [stacks.LOOK_EVERY_S] * 2


def test_what_is_only_tidied_up_afterwards_is_waited_for_too(aws: str) -> None:
    stack, pauses = carry_out(["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"])
    assert (stack.status, len(pauses)) == ("UPDATE_COMPLETE", 1)


def test_a_stack_that_takes_for_ever_is_not_waited_for_as_long(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "LOOKS", 5)
    with pytest.raises(ElasticError, match="is still CREATE_IN_PROGRESS after half an hour"):
        carry_out(["CREATE_IN_PROGRESS"])


def test_a_change_that_was_taken_back_has_failed(aws: str) -> None:
    with pytest.raises(ElasticError, match="is UPDATE_ROLLBACK_COMPLETE now, and its events do not say why"):
        carry_out(["UPDATE_ROLLBACK_COMPLETE"])
