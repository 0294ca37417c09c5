"""Where instances run: a VPC, and one subnet in each zone that may be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from orchestrator.cloud_setup.clients import Clients
from orchestrator.cloud_setup.refusals import code_of
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, SubnetTypeDef


@dataclass(frozen=True)
class Network:
    """A VPC with subnets by zone."""

    vpc_id: str
    subnets: Mapping[str, str]
    arns: tuple[str, ...]


def find_network(clients: Clients, vpc_id: str | None, subnet_ids: Sequence[str]) -> Network:
    """The network that is named, or else the region's default one. Raises UsageError where it cannot be used."""
    if subnet_ids:
        return _of(_subnets_named(clients, subnet_ids), vpc_id)
    vpc_id = vpc_id or _default_vpc(clients)
    subnets = _default_subnets(clients, vpc_id)
    if not subnets:
        raise UsageError(
            f"{vpc_id} in {clients.region} has no default subnets: name one for each zone with --subnets, from which "
            "the internet can be reached."
        )
    return _of(subnets, vpc_id)


def _default_vpc(clients: Clients) -> str:
    with clients.explaining("find the default VPC"):
        found = clients.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise UsageError(
            f"There is no default VPC in {clients.region}: make one with aws ec2 create-default-vpc --region "
            f"{clients.region} (it costs nothing), or name yours with --vpc and --subnets."
        )
    return found[0]["VpcId"]


def _default_subnets(clients: Clients, vpc_id: str) -> "list[SubnetTypeDef]":
    wanted: list[FilterTypeDef] = [
        {"Name": "vpc-id", "Values": [vpc_id]},
        {"Name": "default-for-az", "Values": ["true"]},
    ]
    with clients.explaining(f"list the subnets of {vpc_id}"):
        pages = clients.ec2.get_paginator("describe_subnets").paginate(Filters=wanted)
        return [subnet for page in pages for subnet in page["Subnets"]]


def _subnets_named(clients: Clients, subnet_ids: Sequence[str]) -> "list[SubnetTypeDef]":
    with clients.explaining("look at the subnets"):
        try:
            return clients.ec2.describe_subnets(SubnetIds=list(subnet_ids))["Subnets"]
        except ClientError as error:
            if code_of(error).startswith("InvalidSubnet"):
                raise UsageError(
                    f"--subnets {','.join(subnet_ids)}: {error.response['Error']['Message']} (in {clients.region})."
                ) from error
            raise


def _of(found: "list[SubnetTypeDef]", vpc_id: str | None) -> Network:
    """The network of these subnets; of two in one zone nobody could say which is meant."""
    subnets: dict[str, str] = {}
    for subnet in sorted(found, key=lambda each: (each["AvailabilityZone"], each["SubnetId"])):
        zone, name = subnet["AvailabilityZone"], subnet["SubnetId"]
        if zone in subnets:
            raise UsageError(f"{subnets[zone]} and {name} are both in {zone}: name one subnet for each zone.")
        subnets[zone] = name
    vpcs = sorted({subnet["VpcId"] for subnet in found} | ({vpc_id} if vpc_id else set()))
    if len(vpcs) > 1:
        raise UsageError(
            f"The subnets are not all in one VPC ({', '.join(vpcs)}), as those of one job's instances must be."
        )
    return Network(vpcs[0], subnets, tuple(sorted(subnet["SubnetArn"] for subnet in found)))
