"""A CloudFormation stack that is made and changed by change sets: first what would change, then the change.

Ending this process ends nothing: a change that was begun goes on at AWS, and the same command finds it there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from orchestrator.cloud_setup.clients import Clients
from orchestrator.cloud_setup.refusals import code_of, message_of, missing_right
from orchestrator.errors import CredentialsError, ElasticError, UsageError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.literals import ChangeSetTypeType
    from mypy_boto3_cloudformation.type_defs import (
        ChangeTypeDef,
        CreateChangeSetInputTypeDef,
        DescribeChangeSetOutputTypeDef,
        StackEventTypeDef,
    )

LOOK_EVERY_S: Final = 4.0
LOOKS: Final = 450
"""After half an hour it is somebody's to look at."""

_WHOLE: Final = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
_DONE: Final = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_NOT_MADE: Final = {"REVIEW_IN_PROGRESS", "DELETE_COMPLETE"}
_NO_CHANGE: Final = ("didn't contain changes", "No updates are to be performed")

Tell = Callable[[str], None]
Sleep = Callable[[float], None]


@dataclass(frozen=True)
class Stack:
    """A stack as it is."""

    name: str
    id: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def under_way(self) -> bool:
        """Whether it is being made, changed or removed now."""
        return self.status.endswith("_IN_PROGRESS") and self.status not in _NOT_MADE


@dataclass(frozen=True)
class Change:
    """What would be done to one resource."""

    action: str
    resource: str
    kind: str
    replaced: bool = False
    what: tuple[str, ...] = ()
    """The properties that differ."""


@dataclass(frozen=True)
class Plan:
    """A change set that waits to be carried out."""

    stack_id: str
    change_set_id: str
    makes: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Wanted:
    """What the stack is to be."""

    name: str
    template: str
    parameters: Mapping[str, str]
    takes_back: bool = False
    """Whether it takes in a bucket that an earlier stack has left."""


def find(clients: Clients, name: str) -> Stack | None:
    """The stack of this name, or that has this id; None where there is none, or where it was never made or is gone."""
    with clients.explaining(f"look for the stack {name}"):
        try:
            found = clients.cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in message_of(error):
                return None
            raise
    if found["StackStatus"] in _NOT_MADE:
        return None
    return Stack(
        found["StackName"],
        found["StackId"],
        found["StackStatus"],
        {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", [])},
        {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])},
    )


def check_ready(stack: Stack | None) -> None:
    """Raise ElasticError unless a stack can be changed now."""
    if stack is None or stack.status in _WHOLE:
        return
    if stack.under_way:
        raise ElasticError(
            f"The stack {stack.name} is being changed at this moment ({stack.status}): wait until it is."
        )
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        raise ElasticError(
            f"The stack {stack.name} could not go back to what it was ({stack.status}): run aws cloudformation "
            f"continue-update-rollback --stack-name {stack.name}, then this again."
        )
    raise ElasticError(
        f"The stack {stack.name} was never made whole ({stack.status}): remove it with elastic bootstrap --destroy "
        f"--stack {stack.name}, then run this again. The bucket stays."
    )


def plan(clients: Clients, wanted: Wanted, stack: Stack | None, nonce: str, sleep: Sleep) -> Plan | None:
    """Have AWS compare what is wanted with what is; None: nothing would change. Raises ElasticError."""
    kind: ChangeSetTypeType = "CREATE" if stack is None else "UPDATE"
    request: CreateChangeSetInputTypeDef = {
        "StackName": wanted.name,
        "ChangeSetName": f"elastic-{nonce}",
        "ChangeSetType": kind,
        "TemplateBody": wanted.template,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.parameters.items()],
        "Capabilities": ["CAPABILITY_IAM"],
    }
    if stack is None:
        request["OnStackFailure"] = "DELETE"  # nothing is left behind, and the next try finds a clean place
    if wanted.takes_back:
        request["ImportExistingResources"] = True
    with clients.explaining(f"compare the stack {wanted.name} with what it is to be"):
        made = clients.cloudformation.create_change_set(**request)
        described = _when_compared(clients, made["StackId"], made["Id"], sleep)
    planned = Plan(made["StackId"], made["Id"], stack is None, tuple(_changes(described)))
    if described[0]["Status"] == "CREATE_COMPLETE":
        return planned
    why = described[0].get("StatusReason", "no reason was given")
    discard(clients, planned)
    if any(words in why for words in _NO_CHANGE):
        return None
    raise _failure(f"AWS refuses what the stack {wanted.name} is to be", why)


def discard(clients: Clients, planned: Plan) -> None:
    """Take back a change set, and with it the empty stack that one for a new stack brings along."""
    with clients.explaining("take back the change set"):
        clients.cloudformation.delete_change_set(ChangeSetName=planned.change_set_id, StackName=planned.stack_id)
        if planned.makes:
            clients.cloudformation.delete_stack(StackName=planned.stack_id)


def carry_out(clients: Clients, planned: Plan, sleep: Sleep, tell: Tell) -> Stack:
    """Change the stack, tell each resource as it comes, and return what it is then. Raises ElasticError."""
    with clients.explaining("change the stack"):
        clients.cloudformation.execute_change_set(ChangeSetName=planned.change_set_id, StackName=planned.stack_id)
    stack = _when_quiet(clients, planned.stack_id, sleep, tell)
    if stack is not None and stack.status in _DONE:
        return stack
    now = "and was removed again" if stack is None else f"and is {stack.status} now"
    raise _first_failure(
        clients, planned.stack_id, f"The stack could not be {'made' if planned.makes else 'changed'} {now}"
    )


def remove(clients: Clients, stack: Stack, sleep: Sleep, tell: Tell) -> None:
    """Remove the stack with all that it does not retain. Raises ElasticError."""
    with clients.explaining(f"remove the stack {stack.name}"):
        clients.cloudformation.delete_stack(StackName=stack.id)
    left = _when_quiet(clients, stack.id, sleep, tell)
    if left is not None:
        raise _first_failure(clients, stack.id, f"The stack {stack.name} could not be removed ({left.status})")


def _when_compared(
    clients: Clients, stack_id: str, change_set_id: str, sleep: Sleep
) -> "list[DescribeChangeSetOutputTypeDef]":
    """The pages of a change set, once AWS has finished comparing."""
    for _ in range(LOOKS):
        pages = list(_pages(clients, stack_id, change_set_id))
        if pages[0]["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return pages
        sleep(LOOK_EVERY_S)
    raise ElasticError("AWS has been comparing the stack for half an hour: run it again later.")


def _pages(clients: Clients, stack_id: str, change_set_id: str) -> "Iterator[DescribeChangeSetOutputTypeDef]":
    page = clients.cloudformation.describe_change_set(ChangeSetName=change_set_id, StackName=stack_id)
    yield page
    while token := page.get("NextToken"):
        page = clients.cloudformation.describe_change_set(
            ChangeSetName=change_set_id, StackName=stack_id, NextToken=token
        )
        yield page


def _changes(pages: "list[DescribeChangeSetOutputTypeDef]") -> Iterator[Change]:
    for page in pages:
        yield from map(_change, page.get("Changes", []))


def _change(found: "ChangeTypeDef") -> Change:
    resource = found["ResourceChange"]
    targets = [detail.get("Target", {}) for detail in resource.get("Details", [])]
    what = dict.fromkeys(target.get("Name") or target.get("Attribute", "") for target in targets)
    replaced = resource.get("Replacement", "False") != "False"
    return Change(
        resource["Action"], resource["LogicalResourceId"], resource["ResourceType"], replaced, tuple(filter(None, what))
    )


def _when_quiet(clients: Clients, stack_id: str, sleep: Sleep, tell: Tell) -> Stack | None:
    """The stack once nothing happens to it any more; None: it is gone. What happens meanwhile is told."""
    told: set[str] = set()
    for _ in range(LOOKS):
        stack = find(clients, stack_id)
        for event in reversed(_events(clients, stack_id)):
            if event["EventId"] not in told and event["ResourceStatus"].endswith(("_COMPLETE", "_FAILED")):
                tell(f"{event['LogicalResourceId']}: {event['ResourceStatus'].lower().replace('_', ' ')}")
            told.add(event["EventId"])
        if stack is None or not stack.under_way:
            return stack
        sleep(LOOK_EVERY_S)
    raise ElasticError(
        f"The stack is still {stack.status if stack else 'going'} after half an hour: look at its events."
    )


def _events(clients: Clients, stack_id: str) -> "list[StackEventTypeDef]":
    """What happened to the stack and its resources since the present change began, newest first."""
    since: list[StackEventTypeDef] = []
    with clients.explaining("read the stack's events"):
        for page in clients.cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
            for event in page["StackEvents"]:
                if str(event["ResourceStatus"]) == "REVIEW_IN_PROGRESS":  # of the change set, before it is carried out
                    continue
                since.append(event)
                if event.get("ResourceStatusReason") == "User Initiated":
                    return since
    return since


def _first_failure(clients: Clients, stack_id: str, what: str) -> ElasticError:
    """The error for a person: the resource that failed first; those after it are only its consequences."""
    failed: list[tuple[datetime, str, str]] = [
        (event["Timestamp"], event["LogicalResourceId"], event.get("ResourceStatusReason", "no reason was given"))
        for event in _events(clients, stack_id)
        if event["ResourceStatus"].endswith("_FAILED")
        and "cancelled" not in event.get("ResourceStatusReason", "")
        and event.get("PhysicalResourceId") != stack_id
    ]
    if not failed:
        return ElasticError(f"{what}, and its events do not say why.")
    _, resource, why = min(failed, key=lambda each: each[0])
    return _failure(f"{what}: {resource} failed", why)


def _failure(what: str, why: str) -> ElasticError:
    why = " ".join(why.split()).rstrip(".")
    if (right := missing_right(why)) is not None:
        return CredentialsError(f"{what}: {right}")
    if "Bucket" in what and "already exists" in why:
        return UsageError(f"{what}: {why}. Bucket names are shared by all of AWS: name another with --bucket.")
    return ElasticError(f"{what}: {why}.")
