"""What is asked of RunInstances. Pure, so that a test can look at it; the same launch is always the same request."""

import hashlib
from typing import TYPE_CHECKING

from orchestrator.fleets.ec2.sightings import GENERATION_TAG, INSTANCE_TAG, JOB_TAG, STORE_TAG
from orchestrator.fleets.protocol import LaunchError, LaunchRequest
from orchestrator.jobs.cloud_account import CloudAccount

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import RunInstancesRequestTypeDef, SpotMarketOptionsTypeDef, TagTypeDef

MAX_USER_DATA_BYTES = 16_384


def client_token(store_identity: str, instance: str) -> str:
    """The token of a launch: 64 ASCII characters, which is all that EC2 allows; another store's are others."""
    return hashlib.sha256(f"{store_identity}\n{instance}".encode()).hexdigest()


def run_instances(
    request: LaunchRequest, account: CloudAccount, *, store_identity: str, ami: str, user_data: str
) -> "RunInstancesRequestTypeDef":
    """The parameters of one launch. Raises LaunchError for a zone that the account has no subnet in.

    What must not be otherwise, though the launch template says it too, is said here again: no instance may outlive its
    shutdown, or give its role to whoever can make it fetch a URL.
    """
    subnet = account.subnets.get(request.zone)
    if subnet is None:
        raise LaunchError(
            f"the store's account has no subnet in {request.zone or 'no zone'}: run `elastic bootstrap` again",
            kind="fatal",
        )
    size = len(user_data.encode())
    if size > MAX_USER_DATA_BYTES:
        raise LaunchError(f"the user data has {size} bytes, and EC2 takes {MAX_USER_DATA_BYTES}", kind="fatal")
    tags = _tags(request, store_identity)
    asked: RunInstancesRequestTypeDef = {
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": client_token(store_identity, request.instance),
        "LaunchTemplate": {
            "LaunchTemplateId": account.launch_template_id,
            "Version": account.launch_template_version,
        },
        "ImageId": ami,
        "InstanceType": request.instance_type,  # type: ignore[typeddict-item] # types are newer than the stubs
        "SubnetId": subnet,
        "SecurityGroupIds": [account.security_group_id],
        "IamInstanceProfile": {"Arn": account.instance_profile_arn},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "HttpEndpoint": "enabled",
            "InstanceMetadataTags": "enabled",  # the agent looks whether it is who it is told to be
        },
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
        ],
        "UserData": user_data,
    }
    if request.market == "spot":
        asked["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _spot_options(request)}
    return asked


def _spot_options(request: LaunchRequest) -> "SpotMarketOptionsTypeDef":
    """With a most that it may cost, EC2 takes it back once the spot price is above that, rather than bill more."""
    options: SpotMarketOptionsTypeDef = {
        "SpotInstanceType": "one-time",
        "InstanceInterruptionBehavior": "terminate",
    }
    if request.max_usd_per_hour is not None:
        options["MaxPrice"] = f"{request.max_usd_per_hour:.6f}"
    return options


def _tags(request: LaunchRequest, store_identity: str) -> "list[TagTypeDef]":
    values = {
        "Name": request.instance,
        STORE_TAG: store_identity,
        JOB_TAG: request.job,
        INSTANCE_TAG: request.instance,
        GENERATION_TAG: str(request.generation),
    }
    return [{"Key": key, "Value": value} for key, value in values.items()]
