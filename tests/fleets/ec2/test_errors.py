"""Every class of error that EC2 answers, through botocore's real parsers and retries, and the reaction to it."""

from dataclasses import replace

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from orchestrator.errors import CredentialsError
from orchestrator.fleets.ec2.errors import FleetDenied, missing_right
from orchestrator.fleets.protocol import FleetError, LaunchError
from tests.support.moto_ec2 import Bench, answer_xml, request

NAME = "job-g1-n0-a0"
ARN = "arn:aws:ec2:us-east-1:123456789012:instance/*"
NOT_ALLOWED = (
    "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/me is not authorized to "
    f"perform: ec2:RunInstances on resource: {ARN} because no identity-based policy allows the ec2:RunInstances "
    "action. Encoded authorization failure message: Xh4kR0"
)

REFUSED = {
    # status, code, message: kind, what a person is told
    "no capacity": (
        500,
        "InsufficientInstanceCapacity",
        "We do not have",
        "capacity",
        "no spot g6.xlarge to give in us-",
    ),
    "no capacity for spot": (400, "UnfulfillableCapacity", "no", "capacity", "AWS has no spot g6.xlarge"),
    "no capacity either": (500, "InsufficientCapacity", "no", "capacity", "AWS has no spot g6.xlarge"),
    "not in this zone": (400, "Unsupported", "Your requested", "capacity", "g6.xlarge is not offered in us-east-1a"),
    "spot too dear": (400, "SpotMaxPriceTooLow", "Your Spot", "capacity", "above the most that may be paid"),
    "no address": (400, "InsufficientFreeAddressesInSubnet", "no", "capacity", "the subnet of us-east-1a has no free"),
    "spot quota": (
        400,
        "MaxSpotInstanceCountExceeded",
        "Max spot instance count exceeded",
        "quota",
        "its quota 'All G and VT Spot Instance Requests' (L-3819A6DF) is used up or 0; ask for more with: aws service-",
    ),
    "vCPU quota": (400, "VcpuLimitExceeded", "vCPU limit of 0", "quota", "may have no more instances like g6.xlarge"),
    "instance quota": (400, "InstanceLimitExceeded", "You have", "quota", "may have no more instances like g6.xlarge"),
    "volume quota": (400, "VolumeLimitExceeded", "You have", "quota", "may have no more EBS volumes"),
    "a new account": (400, "PendingVerification", "being verified", "quota", "AWS verifies the account still"),
    "a missing right": (
        403,
        "UnauthorizedOperation",
        NOT_ALLOWED,
        "fatal",
        f'or use its role: {{"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "{ARN}"}}',
    ),
    "a denied right": (
        403,
        "UnauthorizedOperation",
        "User: me is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/x with an explicit deny",
        "fatal",
        "a policy denies iam:PassRole on arn:aws:iam::1:role/x explicitly",
    ),
    "a right that is not named": (
        403,
        "UnauthorizedOperation",
        "You are not authorized to perform this operation.",
        "fatal",
        '"Action": "ec2:RunInstances", "Resource": "*"',
    ),
    "no such AMI": (400, "InvalidAMIID.NotFound", "ami-1", "fatal", "there is no such AMI in us-east-1 (ami-1)"),
    "somebody else's AMI": (403, "AuthFailure", "Not authorized for images: [ami-1]", "fatal", "not for this account"),
    "a subnet that is gone": (400, "InvalidSubnetID.NotFound", "no", "fatal", "the subnet of us-east-1a is gone"),
    "a group that is gone": (400, "InvalidGroup.NotFound", "no", "fatal", "the security group is gone"),
    "a template that is gone": (
        400,
        "InvalidLaunchTemplateId.NotFound",
        "no",
        "fatal",
        "the launch template is gone (no): run `elastic bootstrap` again",
    ),
    "no service": (401, "OptInRequired", "You are not subscribed", "fatal", "has not signed up for EC2 in us-east-1"),
    "no volume": (500, "InsufficientVolumeCapacity", "no", "capacity", "no EBS volume to give in us-east-1a"),
    "no spot ever before": (
        403,
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
        "The provided credentials do not have permission to create the service-linked role for EC2 Spot Instances.",
        "fatal",
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "a blocked account": (403, "Blocked", "blocked", "fatal", "write to AWS Support"),
    "a wrong parameter": (
        400,
        "InvalidParameterValue",
        "Invalid value 'x' for InstanceType.",
        "fatal",
        "EC2 refused the launch: InvalidParameterValue (Invalid value 'x' for InstanceType)",
    ),
    "another parameter": (400, "InvalidParameterCombination", "no", "fatal", "InvalidParameterCombination (no)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_definite_refusal_says_where_to_go_next(bench: Bench, case: str) -> None:
    status, code, message, kind, told = REFUSED[case]
    asked = answer_xml(bench.clients.launch, "RunInstances", (status, code, message))

    with pytest.raises(LaunchError) as caught:
        bench.fleet.launch(request(NAME))

    assert caught.value.kind == kind
    assert told in str(caught.value)
    assert "Encoded" not in str(caught.value)
    assert len(asked) == 1  # also where botocore would try again: capacity does not come in a second


UNCLEAR = {
    "throttled": (503, "RequestLimitExceeded", "Request limit exceeded."),
    "throttled otherwise": (400, "Throttling", "Rate exceeded"),
    "unavailable": (503, "Unavailable", "The server is overloaded"),
    "unavailable too": (503, "ServiceUnavailable", "x"),
    "a fault of AWS": (500, "InternalError", "An internal error has occurred"),
    "a fault nobody knows": (500, "Whatever", "x"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_an_unclear_answer_is_asked_again_by_the_controller_alone(bench: Bench, case: str) -> None:
    asked = answer_xml(bench.clients.launch, "RunInstances", UNCLEAR[case])

    with pytest.raises(FleetError) as caught:
        bench.fleet.launch(request(NAME))
    assert UNCLEAR[case][1] in str(caught.value)
    assert len(asked) == 1
    bench.fleet.launch(request(NAME))

    first, second = bench.requests("RunInstances")
    assert first["ClientToken"] == second["ClientToken"]
    assert first == second


CREDENTIALS = {
    "wrong, or the clock": (401, "AuthFailure", "AWS was not able to validate", "clock is wrong: set it (timedatectl"),
    "clock off by an hour": (400, "RequestExpired", "Request has expired", "have expired"),
    "clock off, as others say it": (403, "RequestTimeTooSkewed", "too large", "this machine's clock is wrong"),
    "expired": (400, "ExpiredToken", "The security token has expired", "the credentials have expired: log in again"),
    "an unknown key": (403, "InvalidClientTokenId", "invalid", "the access key does not exist"),
    "a wrong secret": (403, "SignatureDoesNotMatch", "x", "the secret key is wrong"),
    "none": (403, "MissingAuthenticationToken", "x", "there are no credentials"),
}


@pytest.mark.parametrize("case", CREDENTIALS)
def test_the_controllers_credentials_are_no_fault_of_the_job(bench: Bench, case: str) -> None:
    """A laptop whose session ends at night must not fail the job: the next one to log in carries on."""
    status, code, message, told = CREDENTIALS[case]
    answer_xml(bench.clients.launch, "RunInstances", (status, code, message))
    answer_xml(bench.clients.ec2, "DescribeInstances", (status, code, message))

    for act in (lambda: bench.fleet.launch(request(NAME)), lambda: bench.fleet.describe([NAME])):
        with pytest.raises(FleetDenied) as caught:
            act()
        assert told in str(caught.value)
        assert isinstance(caught.value, CredentialsError) and caught.value.exit_code == 4
    bench.fleet.launch(request(NAME))


def test_a_look_that_is_not_allowed_names_the_right(bench: Bench) -> None:
    answer_xml(bench.clients.ec2, "DescribeInstances", (403, "UnauthorizedOperation", "You are not authorized."))

    with pytest.raises(FleetDenied, match="the right ec2:DescribeInstances is missing"):
        bench.fleet.describe([NAME])


def test_throttled_looks_are_repeated_and_then_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _pause_s: None)
    throttled = (503, "RequestLimitExceeded", "Request limit exceeded.")
    asked = answer_xml(bench.clients.ec2, "DescribeInstances", *[throttled] * 9)

    with pytest.raises(FleetError, match="RequestLimitExceeded"):
        bench.fleet.describe([NAME])
    assert len(asked) == 4


NO_ANSWER: dict[str, tuple[Exception, type[FleetError]]] = {
    "no credentials at all": (NoCredentialsError(), FleetDenied),
    "no connection": (EndpointConnectionError(endpoint_url="https://x"), FleetError),
    "no connection in time": (ConnectTimeoutError(endpoint_url="https://x"), FleetError),
    "no answer in time": (ReadTimeoutError(endpoint_url="https://x"), FleetError),
    "a proxy's page": (ResponseParserError("invalid XML"), FleetError),
}


@pytest.mark.parametrize("case", NO_ANSWER)
def test_no_answer_is_no_refusal(bench: Bench, case: str) -> None:
    failure, kind = NO_ANSWER[case]

    def fail(**_: object) -> None:
        raise failure

    bench.clients.launch.meta.events.register_first("before-send.ec2.RunInstances", fail)
    with pytest.raises(kind):
        bench.fleet.launch(request(NAME))


def test_what_botocore_itself_refuses_is_fatal(bench: Bench) -> None:
    """A number where AWS wants text never leaves this machine: the same again could not either."""
    wrong = replace(request(NAME), instance_type=7)  # type: ignore[arg-type]
    bench.fleet._sent.add(NAME)

    with pytest.raises(LaunchError, match="before it was sent") as caught:
        bench.fleet.launch(wrong)
    assert caught.value.kind == "fatal"


@pytest.mark.parametrize(
    ("message", "action", "resource"),
    [
        (NOT_ALLOWED, "ec2:RunInstances", ARN),
        ("User: x is not authorized to perform: pricing:GetProducts", "pricing:GetProducts", "*"),
        (
            "is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/r",
            "iam:PassRole",
            "arn:aws:iam::1:role/r",
        ),
        ("You are not authorized to perform this operation.", "ec2:X", "*"),
    ],
)
def test_the_missing_right_is_read_from_what_aws_says(message: str, action: str, resource: str) -> None:
    assert missing_right(message, "ec2:X") == (action, resource)
