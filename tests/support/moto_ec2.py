"""EC2 for the fleet's tests: the account on loopback that a rehearsal has, set up as `elastic bootstrap` would.

moto ignores much of what it is sent, so tests look at the requests themselves; and faults are put in at botocore's
events, so that its real retries and parsers run.
"""

import base64
import io
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl

import boto3.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError

from orchestrator.fleets.ec2.client import Clients, make_clients
from orchestrator.fleets.ec2.fleet import Ec2Fleet
from orchestrator.fleets.protocol import LaunchRequest, Market
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.rehearsal.account import REGION, Account, running_account
from orchestrator.rehearsal.prices import Prices
from orchestrator.rehearsal.refusals import Shortages

AMI = "ami-12c6146b"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
PACKAGE = f"control/packages/{'0' * 64}/elastic-0.1.0-py3-none-any.whl"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-EXAMPLE"}


@contextmanager
def ec2_account() -> Iterator[Account]:
    """A running account, which this process's clients lead to."""
    with (
        TemporaryDirectory(prefix="elastic-account-") as directory,
        running_account(Path(directory) / "moto.log") as account,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in {**account.environ, **CREDENTIALS, "AWS_EC2_METADATA_DISABLED": "true"}.items():
            patch.setenv(name, value)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield account


def set_up(**changes: Any) -> CloudAccount:
    """What bootstrap makes, made: a subnet in each of three zones, a security group, a profile, a launch template."""
    ec2, iam = _session().client("ec2", region_name=REGION), _session().client("iam", region_name=REGION)
    name = f"elastic-{uuid.uuid4().hex[:8]}"
    profile = iam.create_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    group = ec2.create_security_group(GroupName=name, Description="no inbound")["GroupId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": list(ZONES)}])["Subnets"]
    template = ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"IamInstanceProfile": {"Arn": profile["Arn"]}, "SecurityGroupIds": [group]},
    )["LaunchTemplate"]
    facts: dict[str, Any] = {
        "account_id": "123456789012",
        "region": REGION,
        "launch_template_id": template["LaunchTemplateId"],
        "launch_template_version": "1",
        "subnets": {subnet["AvailabilityZone"]: subnet["SubnetId"] for subnet in subnets},
        "security_group_id": group,
        "instance_profile_arn": profile["Arn"],
        "ami": AMI,
        "store_url": "s3://jobs/mine",
        "package_key": PACKAGE,
    }
    return CloudAccount(**{**facts, **changes})


@cache
def _session() -> boto3.session.Session:
    """One for all benches: reading EC2's own description takes a second, and a session remembers it."""
    return boto3.session.Session()


class Bench:
    """A fleet on an account, with what it sent and what it said."""

    def __init__(self, aws: Account, account: CloudAccount, identity: str | None = None) -> None:
        self.aws, self.account = aws, account
        self.identity = identity or uuid.uuid4().hex
        self.said: list[str] = []
        self.now_s = 0.0
        self.clients: Clients = make_clients(account.region, _session())
        self.sent: list[tuple[str, dict[str, str]]] = []
        for client in (self.clients.launch, self.clients.ec2, self.clients.pricing, self.clients.quotas):
            client.meta.events.register_first("before-send", self._note)
        self.fleet = self.another_fleet()

    def another_fleet(self) -> Ec2Fleet:
        """That of another controller on the same store and account: it remembers nothing."""
        return Ec2Fleet(
            self.account,
            self.identity,
            self.clients,
            now=lambda: datetime.now(UTC),
            monotonic=lambda: self.now_s,
            log=self.said.append,
        )

    def _note(self, request: Any, event_name: str, **_: object) -> None:
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        fields = {"json": body} if body.startswith("{") else dict(parse_qsl(body))
        self.sent.append((event_name.rpartition(".")[2], fields))

    def requests(self, operation: str) -> list[dict[str, str]]:
        """All requests of a kind so far."""
        return [fields for name, fields in self.sent if name == operation]

    def launched(self, name: str = "job-g1-n0-a0", **changes: Any) -> str:
        """Launch an instance and give EC2's id of it."""
        self.fleet.launch(request(name, **changes))
        tags = {"elastic:store": self.identity, "elastic:instance": name}
        return next(entry.id for entry in self.aws.ledger() if tags.items() <= entry.tags.items())


def request(
    name: str = "job-g1-n0-a0",
    *,
    instance_type: str = "g6.xlarge",
    zone: str = ZONES[0],
    market: Market = "spot",
    allowance_s: float | None = 3600.0,
    max_usd_per_hour: float | None = None,
    count: int = 1,
    image: str | None = None,
) -> LaunchRequest:
    """A launch of a job named 'job'."""
    return LaunchRequest(
        instance=name,
        job="job",
        generation=1,
        instance_type=instance_type,
        workers=1,
        cores_per_worker=2,
        allowance_s=allowance_s,
        zone=zone,
        market=market,
        max_usd_per_hour=max_usd_per_hour,
        count=count,
        image=image,
    )


def calm(aws: Account) -> None:
    """Nothing is short, and prices are the ordinary ones."""
    aws.set_shortages(Shortages())
    aws.set_prices(Prices())


# --- faults -----------------------------------------------------------------------------------------------------------


class _Raw(io.BytesIO):
    """The body of an answer, as urllib3 would give it."""

    def stream(self, **_: object) -> Any:
        yield self.read()


def answer_xml(client: Any, operation: str, *errors: tuple[int, str, str]) -> list[str]:
    """The next requests of this kind get these errors (status, code, message) instead of being sent.

    The list that comes back grows by each request.
    """
    left, asked = list(errors), list[str]()

    def reply(request: Any, **_: object) -> AWSResponse | None:
        asked.append(operation)
        if not left:
            return None
        status, code, message = left.pop(0)
        document = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
            "<RequestID>1</RequestID></Response>"
        )
        return AWSResponse(request.url, status, HTTPHeaders(), _Raw(document.encode()))

    client.meta.events.register_first(f"before-send.ec2.{operation}", reply)
    return asked


def answer_json(client: Any, service: str, operation: str, status: int, document: Any) -> None:
    """Every request of this kind gets this answer instead of being sent."""
    answer_json_in_turn(client, service, operation, [(status, document)])


def answer_json_in_turn(client: Any, service: str, operation: str, answers: Sequence[tuple[int, Any]]) -> None:
    """The requests of this kind get these answers instead of being sent; the last one is for all that follow."""
    left = list(answers)

    def reply(request: Any, **_: object) -> AWSResponse:
        status, document = left.pop(0) if len(left) > 1 else left[0]
        headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.1"})
        return AWSResponse(request.url, status, headers, _Raw(json.dumps(document).encode()))

    client.meta.events.register_first(f"before-send.{service}.{operation}", reply)


def lose_reply(client: Any, operation: str, times: int = 1) -> None:
    """EC2 does what it is asked, and its answer is lost."""
    left = [None] * times

    def lose(**_: object) -> None:
        if left:
            left.pop()
            raise ReadTimeoutError(endpoint_url="http://test")

    client.meta.events.register_first(f"after-call.ec2.{operation}", lose)


def answer_later(client: Any, seconds: float) -> None:
    """From now on EC2 says that it answers so much later than it does."""

    def put_off(parsed: dict[str, Any], **_: object) -> None:
        headers = parsed["ResponseMetadata"]["HTTPHeaders"]
        at = parsedate_to_datetime(headers["date"]) + timedelta(seconds=seconds)
        headers["date"] = format_datetime(at, usegmt=True)

    client.meta.events.register_first("after-call.ec2.*", put_off)


def decoded(user_data: str) -> str:
    """User data as it is in a request."""
    return base64.b64decode(user_data).decode()
