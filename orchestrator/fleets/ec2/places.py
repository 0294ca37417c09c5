"""Which zones have an instance type, how many vCPUs it has, and which AMI a parameter names: asked once a day."""

from collections.abc import Callable

from orchestrator.fleets.ec2.client import Clients
from orchestrator.fleets.ec2.errors import FAILURES, code_of, explain, not_aws
from orchestrator.fleets.ec2.remembered import Makeshift, Remembered
from orchestrator.fleets.protocol import LaunchError
from orchestrator.spec.instance_types import find_gpu_type

KEPT_S = 24 * 3600.0


class Places:
    """What a region has. For several threads."""

    def __init__(self, clients: Clients, monotonic: Callable[[], float]) -> None:
        self._clients = clients
        self._zones: Remembered[frozenset[str]] = Remembered(KEPT_S, monotonic)
        self._vcpus: Remembered[int | None] = Remembered(KEPT_S, monotonic)
        self._amis: Remembered[str] = Remembered(KEPT_S, monotonic)

    def zones(self, instance_type: str) -> frozenset[str]:
        """The zones of the region that have the type. Raises FleetError."""
        return self._zones.get(instance_type, lambda: self._ask_zones(instance_type))

    def vcpus(self, instance_type: str) -> int | None:
        """As the table says, or AWS; None: neither does."""
        known = find_gpu_type(instance_type)
        return known.vcpus if known else self._vcpus.get(instance_type, lambda: self._ask_vcpus(instance_type))

    def ami(self, parameter: str) -> str:
        """The AMI that an SSM parameter names. Raises FleetError, and LaunchError where there is no such parameter."""
        return self._amis.get(parameter, lambda: self._ask_ami(parameter))

    def _ask_zones(self, instance_type: str) -> frozenset[str]:
        pages = self._clients.ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [instance_type]}]
        )
        try:
            return frozenset(found["Location"] for page in pages for found in page["InstanceTypeOfferings"])
        except FAILURES as error:
            raise explain(error, "DescribeInstanceTypeOfferings", self._clients.region) from error
        except LookupError as error:
            raise not_aws("DescribeInstanceTypeOfferings", self._clients.region) from error

    def _ask_vcpus(self, instance_type: str) -> int | Makeshift[int | None]:
        try:
            answer = self._clients.ec2.describe_instance_types(
                InstanceTypes=[instance_type]  # type: ignore[list-item] # types are newer than the stubs
            )
            return answer["InstanceTypes"][0]["VCpuInfo"]["DefaultVCpus"]
        except (*FAILURES, LookupError):
            return Makeshift(None)  # it only sharpens a check and a message

    def _ask_ami(self, parameter: str) -> str:
        try:
            return self._clients.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        except FAILURES as error:
            if code_of(error) == "ParameterNotFound":
                raise LaunchError(
                    f"no AMI: there is no SSM parameter {parameter} in {self._clients.region}; "
                    "name another, or an AMI, by `elastic bootstrap`",
                    kind="fatal",
                ) from error
            raise explain(error, "GetParameter", self._clients.region) from error
        except LookupError as error:
            raise not_aws("GetParameter", self._clients.region) from error
