"""The template as data: its functions carried out as CloudFormation would, for made-up names of what it makes."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cfnlint.decode import cfn_yaml

from orchestrator.cloud_setup.template import template_path

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = "elastic-bucket"
STORE = "store-1"
EC2_ARN = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
SUBNET = f"{EC2_ARN}:subnet/subnet-1"
TEMPLATE = f"{EC2_ARN}:launch-template/lt-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/elastic-instance"
IMAGE_PARAMETER = f"arn:aws:ssm:{REGION}::parameter/aws/service/image"

Values = dict[str, Any]

_GIVEN: Mapping[str, Any] = {
    # parameters
    "BucketName": BUCKET,
    "StoreId": STORE,
    "VpcId": "vpc-1",
    "SubnetArns": [SUBNET],
    "ImageParameterArn": IMAGE_PARAMETER,
    "DataArns": ["arn:aws:s3:::images", "arn:aws:s3:::images/*"],
    # what AWS knows
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": "elastic",
    "AWS::URLSuffix": "amazonaws.com",
    # what is made
    "LaunchTemplate": "lt-1",
    "SecurityGroup.GroupId": "sg-1",
    "InstanceRole.Arn": ROLE,
}
_NO_VALUE = object()


@cache
def template() -> dict[str, Any]:
    """The template as it is written."""
    loaded: dict[str, Any] = cfn_yaml.load(str(template_path()))
    return loaded


def resources(**parameters: Any) -> dict[str, Any]:
    """Its resources as they would be made, by logical name; those whose condition does not hold are left out."""
    written = template()
    values: Values = {name: each["Default"] for name, each in written["Parameters"].items() if "Default" in each}
    values |= {**_GIVEN, "AWS::NoValue": _NO_VALUE, **parameters}
    conditions = {name: _resolved(each, values) for name, each in written["Conditions"].items()}
    values["conditions"] = conditions
    return {
        name: _resolved(each, values)
        for name, each in written["Resources"].items()
        if conditions.get(each.get("Condition", ""), True)
    }


def statements(resource: str, **parameters: Any) -> list[dict[str, Any]]:
    """The statements of a policy of the stack."""
    found: list[dict[str, Any]] = resources(**parameters)[resource]["Properties"]["PolicyDocument"]["Statement"]
    return found


def _resolved(found: Any, values: Values) -> Any:
    if isinstance(found, list):
        return [made for each in found if (made := _resolved(each, values)) is not _NO_VALUE]
    if not isinstance(found, dict):
        return found
    if len(found) == 1:
        ((name, argument),) = found.items()
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](argument, values)
    return {name: _resolved(each, values) for name, each in found.items()}


def _equals(argument: Any, values: Values) -> bool:
    one, other = (_resolved(each, values) for each in argument)
    return bool(one == other)


def _substituted(argument: str, values: Values) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda name: str(values[name[1]]), argument)


def _attribute(argument: Any, values: Values) -> Any:
    name = argument if isinstance(argument, str) else ".".join(argument)
    return values.get(name, name)


_FUNCTIONS: Mapping[str, Callable[[Any, Values], Any]] = {
    "Ref": lambda name, values: values.get(name, name),
    "Fn::GetAtt": _attribute,
    "Fn::Sub": _substituted,
    "Fn::Equals": _equals,
    "Fn::Not": lambda argument, values: not _resolved(argument[0], values),
    "Fn::Join": lambda argument, values: argument[0].join(_resolved(argument[1], values)),
    "Fn::If": lambda argument, values: _resolved(argument[1 if values["conditions"][argument[0]] else 2], values),
}
