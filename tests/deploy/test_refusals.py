"""What can be wrong with credentials, rights, region, image, network and bucket: one sentence each, and what to do."""

import contextlib
import json
import re
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from orchestrator.errors import CredentialsError, ElasticError, UsageError
from tests.cli.conftest import Elastic
from tests.deploy.conftest import BUCKET, answering, refusing
from tests.deploy.stack_template import ACCOUNT

FAILED, USAGE, CREDENTIALS = ElasticError.exit_code, UsageError.exit_code, CredentialsError.exit_code
WHO = "sts.GetCallerIdentity"
CHANGE = "cloudformation.CreateChangeSet"
DENIED = (
    f"User: arn:aws:iam::{ACCOUNT}:user/anna is not authorized to perform: cloudformation:CreateChangeSet on resource: "
    f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/elastic/* because no identity-based policy allows the "
    "cloudformation:CreateChangeSet action"
)


@dataclass(frozen=True)
class Refusal:
    """How AWS answers to one kind of request, and what a person is told."""

    operation: str
    status: int
    code: str
    message: str
    exit_code: int
    words: str


REFUSALS = {
    "expired": Refusal(WHO, 403, "ExpiredToken", "expired", CREDENTIALS, "have expired: log in again"),
    "no such key": Refusal(WHO, 403, "InvalidClientTokenId", "invalid", CREDENTIALS, "access key does not exist"),
    "wrong secret": Refusal(WHO, 403, "SignatureDoesNotMatch", "no match", CREDENTIALS, "secret key is wrong"),
    "an hour late": Refusal(
        WHO,
        403,
        "SignatureDoesNotMatch",
        "Signature expired: 20261128T110000Z is now earlier than 20261128T114500Z",
        CREDENTIALS,
        "clock is wrong: set it",
    ),
    "an hour early": Refusal(
        "ec2.DescribeVpcs", 401, "AuthFailure", "not able to validate", CREDENTIALS, "clock is wrong"
    ),
    "denied": Refusal(CHANGE, 403, "AccessDenied", DENIED, CREDENTIALS, "lack cloudformation:CreateChangeSet; add"),
    "denied by a policy": Refusal(
        CHANGE,
        403,
        "AccessDenied",
        DENIED.replace("no identity-based policy allows the", "of an explicit deny of"),
        CREDENTIALS,
        "a policy denies cloudformation:CreateChangeSet",
    ),
    "throttled": Refusal(CHANGE, 400, "Throttling", "Rate exceeded", FAILED, "Run it again in a minute"),
    "region not enabled": Refusal(
        "ec2.DescribeVpcs", 401, "OptInRequired", "not subscribed", CREDENTIALS, "the region is not enabled"
    ),
    "something new": Refusal(CHANGE, 400, "Novelty", "of tomorrow", FAILED, "failed with Novelty (of tomorrow)"),
    "another's bucket": Refusal(
        "s3.HeadBucket", 403, "403", "Forbidden", CREDENTIALS, f"belongs to another account than {ACCOUNT}"
    ),
}


def one_sentence(err: str) -> str:
    """What went wrong, after what was begun: a single line, and no traceback."""
    *_, last = err.strip().splitlines()
    assert last.startswith("error: ")
    assert "Traceback" not in err and "fault of elastic" not in err
    return last


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_one_sentence_with_what_to_do(bootstrap: Elastic, refusal: Refusal) -> None:
    with answering(refusal.operation, refusing(refusal.status, refusal.code, refusal.message)):
        outcome = bootstrap()
    assert refusal.words in one_sentence(outcome.err)
    assert (outcome.code, outcome.out) == (refusal.exit_code, "")


def test_a_missing_right_comes_with_the_statement_that_gives_it(bootstrap: Elastic) -> None:
    with answering(CHANGE, refusing(403, "AccessDenied", DENIED)):
        outcome = bootstrap()
    statement = re.search(r"add to their policy: (\{.*\})$", one_sentence(outcome.err))
    assert statement is not None
    assert json.loads(statement[1]) == {
        "Effect": "Allow",
        "Action": "cloudformation:CreateChangeSet",
        "Resource": f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/elastic/*",
    }


def test_without_credentials(bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    outcome = bootstrap()
    assert "there are no AWS credentials" in one_sentence(outcome.err)
    assert outcome.code == CREDENTIALS


def test_with_a_profile_that_is_not_there(bootstrap: Elastic) -> None:
    outcome = bootstrap("--profile", "nobody")
    assert "nobody" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_without_a_region(bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    outcome = bootstrap()
    assert "name one with --region" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_with_a_region_that_does_not_exist(bootstrap: Elastic) -> None:
    def nowhere(_params: dict[str, Any]) -> None:
        raise EndpointConnectionError(endpoint_url="https://sts.us-eest-1.amazonaws.com/")

    with answering(WHO, nowhere):
        outcome = bootstrap("--region", "us-eest-1")
    assert "is us-west-1 or us-east-1 meant?" in one_sentence(outcome.err)
    assert outcome.code == USAGE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ami-parameter", "/none"), "There is no SSM parameter /none in us-east-1"),
        (("--ami", "ami-00000000"), "There is no image ami-00000000 in us-east-1"),
        (("--subnets", "subnet-00000000"), "subnet-00000000"),
        (("--vpc", "vpc-00000000"), "has no default subnets: name one for each zone with --subnets"),
    ],
)
def test_what_does_not_exist(bootstrap: Elastic, arguments: tuple[str, ...], words: str) -> None:
    outcome = bootstrap(*arguments)
    assert words in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_an_image_for_other_processors(bootstrap: Elastic) -> None:
    image = {"ImageId": "ami-1", "Architecture": "arm64", "RootDeviceType": "ebs", "RootDeviceName": "/dev/sda1"}
    with answering("ec2.DescribeImages", lambda _params: (200, {"Images": [image]})):
        outcome = bootstrap()
    assert "is an image for arm64" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_a_disk_that_the_image_does_not_fit_on(bootstrap: Elastic) -> None:
    image = {
        "ImageId": "ami-1",
        "Architecture": "x86_64",
        "RootDeviceType": "ebs",
        "RootDeviceName": "/dev/xvda",
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 75}}],
    }
    with answering("ec2.DescribeImages", lambda _params: (200, {"Images": [image]})):
        outcome = bootstrap("--volume", "50")
    assert "the image alone needs 75 GiB" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_a_region_without_a_default_network(bootstrap: Elastic) -> None:
    with answering("ec2.DescribeVpcs", lambda _params: (200, {"Vpcs": []})):
        outcome = bootstrap()
    assert "aws ec2 create-default-vpc --region us-east-1" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_two_subnets_in_one_zone_or_in_two_networks(bootstrap: Elastic) -> None:
    ec2: Any = boto3.client("ec2")
    default = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1a"]}])["Subnets"][0]
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]

    def subnet(cidr: str, zone: str) -> str:
        made = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone)
        return str(made["Subnet"]["SubnetId"])

    one, other, third = (subnet(f"10.0.{n}.0/24", f"us-east-1{zone}") for n, zone in enumerate("bbc"))
    assert "are both in us-east-1b" in one_sentence(bootstrap("--subnets", f"{one},{other}").err)
    assert "are not all in one VPC" in one_sentence(bootstrap("--subnets", f"{default['SubnetId']},{third}").err)
    assert bootstrap("--subnets", f"{one},{third}", "--diff").code == 0


@pytest.mark.parametrize("arguments", [("--bucket", "there"), ("--store", "s3://there/jobs")])
def test_a_bucket_in_another_region(bootstrap: Elastic, arguments: tuple[str, ...]) -> None:
    elsewhere = refusing(301, "301", "Moved Permanently", **{"x-amz-bucket-region": "eu-west-1"})
    with answering("s3.HeadBucket", elsewhere):
        outcome = bootstrap(*arguments)
    assert "is in eu-west-1" in one_sentence(outcome.err) and "--region eu-west-1" in outcome.err
    assert outcome.code == USAGE


def test_a_bucket_that_does_not_exist_cannot_be_the_store(bootstrap: Elastic) -> None:
    outcome = bootstrap("--store", "s3://nowhere-at-all/jobs")
    assert "There is no bucket nowhere-at-all" in one_sentence(outcome.err)
    assert outcome.code == USAGE


def test_of_buckets_only_ones_own_is_asked_for(bootstrap: Elastic) -> None:
    """moto takes any owner, so what counts is what is sent."""
    asked: list[Any] = []

    def note(params: dict[str, Any]) -> None:
        asked.append(params["headers"].get("x-amz-expected-bucket-owner"))

    with contextlib.ExitStack() as stack:
        for operation in ("HeadBucket", "GetBucketTagging", "PutObject", "GetObject", "ListObjectsV2"):
            stack.enter_context(answering(f"s3.{operation}", note))
        assert bootstrap("--bucket", BUCKET).code == 0
        assert bootstrap("--bucket", BUCKET).code == 0
    assert len(asked) > 10 and set(asked) == {ACCOUNT}
