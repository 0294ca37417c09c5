"""The image that instances boot from: looked at before anything relies on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from orchestrator.cloud_setup.clients import Clients
from orchestrator.cloud_setup.refusals import code_of
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

DEFAULT_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""AWS's own image with NVIDIA's driver, and no framework: elastic brings its own."""


@dataclass(frozen=True)
class Image:
    """By its id, or by the SSM parameter that names the newest of its kind; one of the two."""

    ami: str | None
    parameter: str | None
    root_device: str
    size_gib: int

    def parameter_arn(self, partition: str, region: str, account_id: str) -> str:
        """What a controller must be allowed to read; empty: nothing. AWS's own parameters belong to no account."""
        if self.parameter is None:
            return ""
        owner = "" if self.parameter.startswith("/aws/service/") else account_id
        return f"arn:{partition}:ssm:{region}:{owner}:parameter/{self.parameter.lstrip('/')}"


def find_image(clients: Clients, ami: str | None, parameter: str | None) -> Image:
    """The image that is named, or else AWS's with NVIDIA's driver. Raises UsageError where it cannot be used."""
    named = ami or _named_by(clients, parameter or DEFAULT_PARAMETER)
    found = _described(clients, named)
    if found.get("Architecture") != "x86_64" or found.get("RootDeviceType") != "ebs":
        raise UsageError(
            f"{named} is an image for {found.get('Architecture')} on {found.get('RootDeviceType')}: elastic needs one "
            "for x86_64 on ebs, with NVIDIA's driver."
        )
    root = found["RootDeviceName"]
    disks = [each.get("Ebs", {}) for each in found.get("BlockDeviceMappings", []) if each.get("DeviceName") == root]
    size_gib = next((disk["VolumeSize"] for disk in disks if "VolumeSize" in disk), 0)
    return Image(ami, None if ami else parameter or DEFAULT_PARAMETER, root, size_gib)


def _named_by(clients: Clients, parameter: str) -> str:
    with clients.explaining(f"read the parameter {parameter}"):
        try:
            return clients.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
        except ClientError as error:
            if code_of(error) in ("ParameterNotFound", "ParameterVersionNotFound"):
                raise UsageError(
                    f"There is no SSM parameter {parameter} in {clients.region}: name an image with --ami, or the "
                    "parameter that names one with --ami-parameter."
                ) from error
            raise


def _described(clients: Clients, ami: str) -> "ImageTypeDef":
    with clients.explaining(f"look at the image {ami}"):
        try:
            found = clients.ec2.describe_images(ImageIds=[ami])["Images"]
        except ClientError as error:
            if code_of(error).startswith("InvalidAMIID"):
                found = []
            else:
                raise
    if not found:
        raise UsageError(
            f"There is no image {ami} in {clients.region} that this account may use: name another with --ami."
        )
    return found[0]
