"""AWS's clients for one account and region."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from orchestrator.cloud_setup.refusals import explained
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_iam.client import IAMClient
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_ssm.client import SSMClient
    from mypy_boto3_sts.client import STSClient

_PATIENT = Config(retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60)


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are."""

    account_id: str
    arn: str
    partition: str


@dataclass(frozen=True)
class Clients:
    """One session and region; each client is made when it is first used."""

    session: boto3.session.Session
    region: str

    @cached_property
    def cloudformation(self) -> "CloudFormationClient":
        """Of the stack."""
        return self.session.client("cloudformation", region_name=self.region, config=_PATIENT)

    @cached_property
    def ec2(self) -> "EC2Client":
        """Of network, images and instances."""
        return self.session.client("ec2", region_name=self.region, config=_PATIENT)

    @cached_property
    def iam(self) -> "IAMClient":
        """Of roles."""
        return self.session.client("iam", region_name=self.region, config=_PATIENT)

    @cached_property
    def s3(self) -> "S3Client":
        """Of the bucket as a whole; its objects are a store's (`orchestrator.store.s3`)."""
        return self.session.client("s3", region_name=self.region, config=_PATIENT)

    @cached_property
    def ssm(self) -> "SSMClient":
        """Of the parameter that names the image."""
        return self.session.client("ssm", region_name=self.region, config=_PATIENT)

    @cached_property
    def sts(self) -> "STSClient":
        """Of who is asking."""
        return self.session.client("sts", region_name=self.region, config=_PATIENT)

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """Turn what AWS refuses into errors for a person; `doing` is what was tried."""
        with explained(doing, self.region, lambda: self.session.get_available_regions("ec2")):
            yield

    def caller(self) -> Caller:
        """Ask who these credentials are of: the first request, which finds out whether they are good at all."""
        with self.explaining("ask AWS who is asking"):
            answer = self.sts.get_caller_identity()
        return Caller(answer["Account"], answer["Arn"], answer["Arn"].split(":")[1])


def open_clients(profile: str | None, region: str | None, environ: Mapping[str, str]) -> Clients:
    """Clients by the person's settings. Sends nothing yet. Raises UsageError."""
    region = region or environ.get("AWS_REGION") or None  # which every SDK of AWS reads but this one
    try:
        session = boto3.session.Session(profile_name=profile, region_name=region)
    except ProfileNotFound as error:
        there = ", ".join(boto3.session.Session().available_profiles) if profile else ""
        raise UsageError(f"{error}. There is: {there or 'none'}.") from error
    except BotoCoreError as error:
        raise UsageError(
            f"The settings for AWS cannot be used: {error}. Check AWS_PROFILE and ~/.aws/config."
        ) from error
    if session.region_name is None:
        raise UsageError("No region: name one with --region, AWS_REGION, or in the profile; for example us-east-1.")
    return Clients(session, session.region_name)
