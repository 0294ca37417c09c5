"""moto's CloudFormation, made to keep what AWS documents where moto does not, for what one template needs.

moto 5.2.5 gives a stack that a change set made no outputs, shows lists as Python does, takes in no bucket that is there
already, retains a resource only for one of the two words for it, keeps no versions in a bucket that should, loses a
policy that changes, has gaps where a policy's statement is left out, and does not say of an update who wanted it.
"""

import json
from typing import Any

from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.cloudformation.parsing import OutputMap, ResourceMap
from moto.iam.models import ManagedPolicy, iam_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.utilities.utils import get_partition

_execute_change_set = CloudFormationBackend.execute_change_set
_create_bucket = FakeBucket.create_from_cloudformation_json
_create_policy = ManagedPolicy.create_from_cloudformation_json
_delete = ResourceMap.delete
_parameter_list = Stack.parameter_list.fget  # type: ignore[attr-defined]


def mend_stacks() -> None:
    """Take the place of moto's own functions, in this process and for good."""
    mended: list[tuple[Any, str, Any]] = [
        (CloudFormationBackend, "execute_change_set", _execute),
        (FakeBucket, "create_from_cloudformation_json", staticmethod(_bucket)),
        (ManagedPolicy, "create_from_cloudformation_json", staticmethod(_new_policy)),
        (ManagedPolicy, "update_from_cloudformation_json", staticmethod(_policy)),
        (ResourceMap, "delete", _delete_what_is_not_retained),
        (Stack, "parameter_list", property(_parameters)),
    ]
    for owner, name, function in mended:
        setattr(owner, name, function)


def _execute(backend: Any, change_set_name: str, stack_name: str | None = None) -> None:
    _execute_change_set(backend, change_set_name, stack_name)
    change_set = backend.describe_change_set(change_set_name)
    stack = backend.stacks[change_set.stack_id]
    begun = [event for event in stack.events if event.resource_status.endswith("_IN_PROGRESS")]
    begun[-1].resource_status_reason = "User Initiated"
    stack.parameters = change_set.parameters
    stack._parse_template()
    stack.output_map = OutputMap(stack.resource_map, stack.template_dict, stack.stack_id)


def _parameters(stack: Any) -> list[dict[str, Any]]:
    return [
        {**each, "ParameterValue": ",".join(value) if isinstance(value := each["ParameterValue"], list) else value}
        for each in _parameter_list(stack)
    ]


def _bucket(resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **more: Any) -> Any:
    backend = s3_backends[account_id][get_partition(region_name)]
    bucket = backend.buckets.get(resource_name)  # one that is there is taken in
    if bucket is None:
        bucket = _create_bucket(resource_name, cloudformation_json, account_id, region_name, **more)
    properties = cloudformation_json.get("Properties", {})
    if "VersioningConfiguration" in properties:
        backend.put_bucket_versioning(resource_name, properties["VersioningConfiguration"]["Status"])
    return bucket


def _policy(original_resource: Any, cloudformation_json: Any, account_id: str, region_name: str, **_more: Any) -> Any:
    backend = iam_backends[account_id][get_partition(region_name)]
    original_resource.versions = original_resource.versions[-4:]  # of which IAM keeps five
    backend.create_policy_version(original_resource.arn, json.dumps(_document(cloudformation_json)), True)
    return original_resource


def _new_policy(resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **more: Any) -> Any:
    properties = {**cloudformation_json["Properties"], "PolicyDocument": _document(cloudformation_json)}
    return _create_policy(
        resource_name, {**cloudformation_json, "Properties": properties}, account_id, region_name, **more
    )


def _document(cloudformation_json: Any) -> dict[str, Any]:
    """The policy without the gaps that AWS::NoValue leaves among moto's statements."""
    document = cloudformation_json["Properties"]["PolicyDocument"]
    return {**document, "Statement": [each for each in document["Statement"] if each is not None]}


def _delete_what_is_not_retained(resources: Any) -> None:
    for resource in resources._resource_json_map.values():
        if resource.get("DeletionPolicy", "").startswith("Retain"):
            resource["DeletionPolicy"] = "Retain"
    _delete(resources)
