"""One account for all tests of the fleet, and a fleet of its own for each."""

from collections.abc import Iterator

import pytest

from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.rehearsal.account import Account
from tests.support.moto_ec2 import Bench, calm, ec2_account, set_up


@pytest.fixture(scope="package")
def aws() -> Iterator[Account]:
    with ec2_account() as account:
        yield account


@pytest.fixture(scope="package")
def account(aws: Account) -> CloudAccount:
    return set_up()


@pytest.fixture
def bench(aws: Account, account: CloudAccount) -> Iterator[Bench]:
    yield Bench(aws, account)
    calm(aws)
