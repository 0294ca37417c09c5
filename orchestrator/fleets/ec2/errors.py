"""What EC2's errors mean: for the controller, one of a few reactions; for a person, a sentence with what to do.

A launch either was refused for certain (`LaunchError`, with where to go next) or may have happened (`FleetError`: the
same is asked again, with the same token). What is wrong with the controller's own credentials or clock is no fault of
the job: it waits until they are right again.
"""

import json
import re
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from orchestrator.errors import CredentialsError
from orchestrator.fleets.ec2.quotas import how_to_raise, quota_of
from orchestrator.fleets.protocol import FleetError, LaunchError, LaunchRequest, Refusal
from orchestrator.store.s3_answers import NO_CREDENTIALS

Failure = ClientError | BotoCoreError | ResponseParserError
FAILURES: Final = (ClientError, BotoCoreError, ResponseParserError)

NOT_AWS: Final = "what answers is not AWS: check whether a proxy is in between"

MISMATCH: Final = "IdempotentParameterMismatch"
"""Something was launched under this name before, with other settings."""


class FleetDenied(FleetError, CredentialsError):
    """AWS does not accept who asks, or when: a person has to log in, set the clock, or grant a right."""


_SIGN_IN: Final = "log in again, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_CLOCK: Final = "this machine's clock is wrong: set it (timedatectl set-ntp true)"
_CREDENTIAL_CODES: Final[dict[str, str]] = {
    "AuthFailure": f"the credentials are not valid in this region, or {_CLOCK}",
    "RequestExpired": f"the credentials have expired ({_SIGN_IN}), or {_CLOCK}",
    "RequestTimeTooSkewed": _CLOCK,
    "ExpiredToken": f"the credentials have expired: {_SIGN_IN}",
    "ExpiredTokenException": f"the credentials have expired: {_SIGN_IN}",
    "InvalidClientTokenId": f"the access key does not exist, or the region is not enabled: {_SIGN_IN}",
    "UnrecognizedClientException": f"the access key does not exist, or the region is not enabled: {_SIGN_IN}",
    "InvalidAccessKeyId": f"the access key does not exist: {_SIGN_IN}",
    "SignatureDoesNotMatch": f"the secret key is wrong: {_SIGN_IN}",
    "InvalidSignatureException": f"the secret key is wrong, or {_CLOCK}",
    "MissingAuthenticationToken": f"there are no credentials: {_SIGN_IN}",
}
_RIGHTS: Final = ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException")

_REFUSALS: Final[dict[str, tuple[Refusal, str]]] = {
    "InsufficientInstanceCapacity": ("capacity", "AWS has no {market} {type} to give in {zone} now"),
    "InsufficientCapacity": ("capacity", "AWS has no {market} {type} to give in {zone} now"),
    "UnfulfillableCapacity": ("capacity", "AWS has no {market} {type} to give in {zone} now"),
    "InsufficientHostCapacity": ("capacity", "AWS has no {market} {type} to give in {zone} now"),
    "InsufficientReservedInstanceCapacity": ("capacity", "AWS has no {market} {type} to give in {zone} now"),
    "Unsupported": ("capacity", "{type} is not offered in {zone} ({said})"),
    "SpotMaxPriceTooLow": ("capacity", "the price of a spot {type} in {zone} is above the most that may be paid"),
    "InsufficientFreeAddressesInSubnet": ("capacity", "the subnet of {zone} has no free address"),
    "InsufficientVolumeCapacity": ("capacity", "AWS has no EBS volume to give in {zone} now"),
    "MaxSpotInstanceCountExceeded": ("quota", "the account may have no more spot instances like {type} in {region}"),
    "VcpuLimitExceeded": ("quota", "the account may have no more instances like {type} in {region}"),
    "InstanceLimitExceeded": ("quota", "the account may have no more instances like {type} in {region}"),
    "VolumeLimitExceeded": ("quota", "the account may have no more EBS volumes in {region}"),
    "MaxIOPSLimitExceeded": ("quota", "the account may have no more EBS volumes in {region}"),
    "PendingVerification": ("quota", "AWS verifies the account still, which takes minutes to hours ({said})"),
    "OptInRequired": (
        "fatal",
        "the account has not signed up for EC2 in {region}, or for the AMI: finish that in the AWS console ({said})",
    ),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (
        "fatal",
        "the account lacks the role for spot: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "Blocked": ("fatal", "AWS has blocked the account: write to AWS Support ({said})"),
    "InvalidAMIID.NotFound": (
        "fatal",
        "there is no such AMI in {region} ({said}): name another by `elastic bootstrap`",
    ),
    "InvalidAMIID.Malformed": ("fatal", "the AMI's name is wrong ({said}): name another by `elastic bootstrap`"),
    "InvalidAMIID.Unavailable": ("fatal", "the AMI is gone ({said}): name another by `elastic bootstrap`"),
    "InvalidSubnetID.NotFound": ("fatal", "the subnet of {zone} is gone ({said}): run `elastic bootstrap` again"),
    "InvalidGroup.NotFound": ("fatal", "the security group is gone ({said}): run `elastic bootstrap` again"),
    "InvalidLaunchTemplateId.NotFound": (
        "fatal",
        "the launch template is gone ({said}): run `elastic bootstrap` again",
    ),
    "InvalidLaunchTemplateId.VersionNotFound": (
        "fatal",
        "the launch template's version is gone ({said}): run `elastic bootstrap` again",
    ),
}
_UNCLEAR_CODES: Final = {
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "TooManyRequestsException",
    "EC2ThrottledException",
    "SlowDown",
    "Unavailable",
    "ServiceUnavailable",
    "InternalError",
    "InternalFailure",
    "RequestTimeout",
    MISMATCH,
}
_NOT_PERFORM: Final = re.compile(r"not authorized to perform:? ([a-z0-9-]+:\w+)(?: on resource:? (\S+))?")


def code_of(failure: Failure) -> str:
    """AWS's error code; empty where no answer came."""
    return failure.response.get("Error", {}).get("Code", "") if isinstance(failure, ClientError) else ""


def explain_launch(failure: Failure, request: LaunchRequest, region: str, vcpus: int | None) -> Exception:
    """What a failed RunInstances means: a LaunchError where nothing was started for certain, else a FleetError."""
    code = code_of(failure)
    if code in _RIGHTS:
        return LaunchError(_missing_right(failure, "RunInstances"), kind="fatal")
    if code == "AuthFailure" and "image" in _said(failure).lower():
        return LaunchError(f"the AMI is not for this account ({_said(failure)})", kind="fatal")
    if code in _REFUSALS:
        kind, sentence = _REFUSALS[code]
        where = request.zone or region
        market = request.market.replace("_", "-")
        words = {"type": request.instance_type, "zone": where, "region": region, "market": market}
        message = sentence.format(**words, said=_said(failure))
        return LaunchError(message + _advice(code, request, region, vcpus), kind=kind)
    if isinstance(failure, ParamValidationError) or (_status_of(failure) in range(400, 500) and not _is_unclear(code)):
        return LaunchError(f"EC2 refused the launch: {code or 'before it was sent'} ({_said(failure)})", kind="fatal")
    return explain(failure, "RunInstances", region)


def explain(failure: Failure, operation: str, region: str) -> FleetError:
    """What a failed request of any other kind means."""
    code = code_of(failure)
    if isinstance(failure, NO_CREDENTIALS):
        return FleetDenied(f"No AWS credentials for EC2 in {region} ({failure}): {_SIGN_IN}.")
    if code in _CREDENTIAL_CODES:
        return FleetDenied(f"EC2's {operation} in {region} was refused ({code}): {_CREDENTIAL_CODES[code]}.")
    if code in _RIGHTS:
        return FleetDenied(f"EC2's {operation} in {region}: {_missing_right(failure, operation)}.")
    if isinstance(failure, ClientError):
        return FleetError(f"EC2's {operation} in {region} failed: {code} ({_said(failure)}).")
    if isinstance(failure, ResponseParserError):
        return not_aws(operation, region)
    return FleetError(f"EC2 in {region} does not answer {operation} ({failure}): check the network and the region.")


def not_aws(operation: str, region: str) -> FleetError:
    """The error about an answer that cannot be read, or lacks what AWS's has."""
    return FleetError(f"EC2's {operation} in {region} failed: {NOT_AWS}.")


def why_untold(failure: Failure | LookupError | ValueError, right: str) -> str:
    """Why AWS does not tell what one can do without, and what would help."""
    return f"{failure}; the right is {right}" if isinstance(failure, ClientError | BotoCoreError) else NOT_AWS


def missing_right(message: str, action: str) -> tuple[str, str]:
    """Which action on which resource AWS refused: as its message says, or else the one that was asked for."""
    found = _NOT_PERFORM.search(message)
    return (found[1], (found[2] or "*").rstrip(".,")) if found else (action, "*")


def _missing_right(failure: Failure, operation: str) -> str:
    said = _said(failure)
    action, resource = missing_right(said, f"ec2:{operation}")
    if "explicit deny" in said:
        return f"a policy denies {action} on {resource} explicitly: it has to allow what the controller does"
    statement = json.dumps({"Effect": "Allow", "Action": action, "Resource": resource})
    return f"the right {action} is missing; add to the controller's policy, or use its role: {statement}"


def _advice(code: str, request: LaunchRequest, region: str, vcpus: int | None) -> str:
    """How to ask for more where a quota of vCPUs is used up."""
    if code not in ("MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded"):
        return ""
    quota = quota_of(request.instance_type, request.market)
    if quota is None:
        return ": ask for a higher quota at https://console.aws.amazon.com/servicequotas"
    return f": its quota '{quota.name}' ({quota.code}) is used up or 0; ask for more with: " + how_to_raise(
        quota, vcpus or 4, region
    )


def _is_unclear(code: str) -> bool:
    return code in _UNCLEAR_CODES or code in _CREDENTIAL_CODES


def _status_of(failure: Failure) -> int:
    if not isinstance(failure, ClientError):
        return 0
    return failure.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _said(failure: Failure) -> str:
    """AWS's own words, without the encoded part of some, which tells a person nothing."""
    text = failure.response.get("Error", {}).get("Message", "") if isinstance(failure, ClientError) else str(failure)
    return " ".join(text.partition("Encoded authorization failure message")[0].split()).rstrip(". ")
