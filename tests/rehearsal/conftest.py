from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from orchestrator.rehearsal.account import Account, running_account
from orchestrator.rehearsal.refusals import Shortages

IMAGE = "ami-12c6146b"  # moto's own


@pytest.fixture(scope="module")
def shared_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with running_account(tmp_path_factory.mktemp("account") / "log") as account:
        yield account


@pytest.fixture
def account(shared_account: Account) -> Iterator[Account]:
    """An account in which nothing is short; what others have launched there is still on its ledger."""
    yield shared_account
    shared_account.set_shortages(Shortages())


@pytest.fixture
def ec2(account: Account) -> Any:
    return client(account, "ec2")


def client(account: Account, service: str) -> Any:
    """One that sends each request once."""
    config = Config(retries={"total_max_attempts": 1})
    make: Any = boto3.client
    return make(service, endpoint_url=account.url, region_name="us-east-1", config=config)


def run_instance(ec2: Any, zone: str = "us-east-1a", **changes: Any) -> str:
    """Launch one instance; gives its id."""
    asked = {
        "ImageId": IMAGE,
        "InstanceType": "g4dn.xlarge",
        "MinCount": 1,
        "MaxCount": 1,
        "Placement": {"AvailabilityZone": zone},
        "InstanceInitiatedShutdownBehavior": "terminate",
        **changes,
    }
    instance_id: str = ec2.run_instances(**asked)["Instances"][0]["InstanceId"]
    return instance_id


SPOT = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
