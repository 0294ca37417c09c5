"""Clients of AWS for one region. boto3 is imported when the first is made: `elastic --help` does without."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.config import Config
from botocore.exceptions import BotoCoreError

from orchestrator.errors import UsageError
from orchestrator.store.s3_answers import failure_of_credentials

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_ec2.client import EC2Client
    from mypy_boto3_pricing.client import PricingClient
    from mypy_boto3_service_quotas.client import ServiceQuotasClient
    from mypy_boto3_ssm.client import SSMClient

PRICING_REGION = "us-east-1"
"""The price list has endpoints in a few regions only, and each tells the prices of all."""

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 20.0
_TRIES = 4
_CONNECTIONS = 32  # a controller looks after 16 jobs at a time


@dataclass(frozen=True)
class Clients:
    """Everything of AWS that the fleet talks to, in one region. Safe to use from several threads."""

    region: str
    launch: "EC2Client"
    """Sends each request once: what a second answer means after a lost first one, only the fleet knows."""
    ec2: "EC2Client"
    pricing: "PricingClient"
    quotas: "ServiceQuotasClient"
    ssm: "SSMClient"


def make_clients(region: str, session: "Session | None" = None) -> Clients:
    """Clients for a region, with the credentials that botocore finds. Sends nothing yet. Raises `UsageError`."""
    import boto3.session

    patient = Config(
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
    )
    once = patient.merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
    try:
        session = session or boto3.session.Session()
        _translate_failures_of_credentials(session)
        return Clients(
            region=region,
            launch=session.client("ec2", region_name=region, config=once),
            ec2=session.client("ec2", region_name=region, config=patient),
            pricing=session.client("pricing", region_name=PRICING_REGION, config=patient),
            quotas=session.client("service-quotas", region_name=region, config=patient),
            ssm=session.client("ssm", region_name=region, config=patient),
        )
    except (BotoCoreError, ValueError, OSError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UsageError(f"The settings for AWS cannot be used: {said}. Check AWS_PROFILE and endpoints.") from error


def _translate_failures_of_credentials(session: "Session") -> None:
    """Have its clients raise botocore's error where credentials cannot be got anew, whatever their provider raises.

    A `credential_process` that cannot be started, prints no JSON, or gives credentials that have expired raises
    Python's own, which say nothing of where they come from.
    """
    credentials = session.get_credentials()

    def get(**_: object) -> None:
        try:
            if credentials is not None:
                credentials.get_frozen_credentials()  # as whoever signs does next
        except BotoCoreError:
            raise
        except Exception as error:
            raise failure_of_credentials(error) from error

    session.events.register("before-sign", get, unique_id="elastic-credentials")
