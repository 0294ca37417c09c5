"""The EC2 fleet as a daemon has it: nothing is asked of AWS before a job wants it, and bootstrap may come later."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.errors import UsageError
from orchestrator.fleets.ec2.client import Clients
from orchestrator.fleets.ec2.open import Ec2FleetOfStore
from orchestrator.fleets.protocol import InstanceState, LaunchError
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount, load_cloud_account, require_account, why_not_here
from orchestrator.spec.models import Resources
from orchestrator.store import document
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import StoreError
from tests.support.moto_ec2 import Bench, request

NAME = "job-g1-n0-a0"
EC2 = Resources.model_validate({"fleet": "ec2", "ladder": [{"instance": "g6.xlarge"}]})


def nonce() -> str:
    return uuid.uuid4().hex


class Opened:
    """The fleet of a new store, with the regions that clients were made for."""

    def __init__(self, bench: Bench, store: MemoryStore | None = None) -> None:
        self.bench, self.store, self.regions = bench, store or MemoryStore(), list[str]()
        self.fleet = Ec2FleetOfStore(
            self.store,
            nonce,
            now=lambda: datetime.now(UTC),
            monotonic=lambda: bench.now_s,
            log=bench.said.append,
            clients=self._clients,
        )

    def _clients(self, region: str) -> Clients:
        self.regions.append(region)
        return self.bench.clients

    def bootstrap(self, **changes: Any) -> None:
        """What bootstrap writes, again and again if need be."""
        new = self.bench.account.model_copy(update=changes)
        stored = document.load(self.store, ACCOUNT_KEY, CloudAccount)
        if stored is None:
            document.create(self.store, ACCOUNT_KEY, new, nonce)
        else:
            document.swap(self.store, ACCOUNT_KEY, stored, new, nonce)


@pytest.fixture
def opened(bench: Bench) -> Opened:
    return Opened(bench)


def test_without_bootstrap_a_job_is_told_what_to_do(opened: Opened) -> None:
    for ask in (lambda: opened.fleet.launch(request(NAME)), lambda: opened.fleet.offers(EC2, "g6.xlarge")):
        with pytest.raises(LaunchError, match=r"no AWS account is set up for memory:.*elastic bootstrap") as caught:
            ask()
        assert caught.value.kind == "fatal"
    assert opened.fleet.describe([NAME]) == {}
    opened.fleet.terminate(NAME)
    assert opened.regions == []  # no client, no credentials, no request


def test_bootstrap_may_come_while_the_daemon_runs(opened: Opened) -> None:
    assert opened.fleet.describe([NAME]) == {}
    opened.bootstrap()

    opened.fleet.launch(request(NAME))
    assert opened.fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    assert opened.regions == ["us-east-1"]


def test_what_bootstrap_has_changed_counts_from_the_next_launch_on(opened: Opened) -> None:
    opened.bootstrap()
    opened.fleet.launch(request(NAME))
    opened.bootstrap(ami="ami-03cf127a")
    opened.fleet.launch(request("job-g1-n1-a0"))

    assert [sent["ImageId"] for sent in opened.bench.requests("RunInstances")] == ["ami-12c6146b", "ami-03cf127a"]


def test_what_runs_is_ended_though_the_account_was_torn_down(opened: Opened) -> None:
    opened.bootstrap()
    opened.fleet.launch(request(NAME))
    opened.store.delete(ACCOUNT_KEY)

    with pytest.raises(LaunchError, match="no AWS account is set up"):
        opened.fleet.launch(request("job-g1-n1-a0"))
    opened.fleet.terminate(NAME)
    assert opened.fleet.describe([NAME])[NAME].state is InstanceState.RUNNING  # it shuts down


def test_two_daemons_of_one_store_know_the_same_instances(opened: Opened) -> None:
    opened.bootstrap()
    opened.fleet.launch(request(NAME))

    assert Opened(opened.bench, opened.store).fleet.describe([NAME])[NAME].state is InstanceState.STARTING
    assert Opened(opened.bench).fleet.describe([NAME]) == {}


def test_an_account_that_cannot_be_read_is_no_missing_one(opened: Opened) -> None:
    opened.store.put(ACCOUNT_KEY, b'{"region": "us-east-1"}')

    with pytest.raises(StoreError, match=r"control/ec2\.json"):
        opened.fleet.launch(request(NAME))


def test_the_account_is_read_back_as_it_was_written(opened: Opened) -> None:
    assert load_cloud_account(opened.store) is None
    opened.bootstrap()
    read = load_cloud_account(opened.store)

    assert read is not None
    assert read.model_copy(update={"seq": 0, "nonce": ""}) == opened.bench.account
    assert read.package_sha256 == "0" * 64


BAD_ACCOUNTS: dict[str, dict[str, Any]] = {
    "no AMI": {"ami": None},
    "no subnet": {"subnets": {}},
    "a secret": {"environment": {"AWS_SECRET_ACCESS_KEY": "x"}},
    "a wheel that nothing vouches for": {"package_key": "control/packages/elastic-0.1.0-py3-none-any.whl"},
    "a zone for a region": {"region": "us-east-1a"},
}


@pytest.mark.parametrize("mistake", BAD_ACCOUNTS)
def test_an_account_that_could_launch_nothing_is_refused(bench: Bench, mistake: str) -> None:
    with pytest.raises(ValueError, match=r"ami|subnets|secret|package_key|region"):
        CloudAccount.model_validate(bench.account.model_dump() | BAD_ACCOUNTS[mistake])


def test_a_job_that_could_only_fail_is_not_submitted(opened: Opened) -> None:
    with pytest.raises(UsageError, match=r"No AWS account is set up for memory:.*run `elastic bootstrap`, then"):
        require_account(opened.store, EC2)
    require_account(opened.store, Resources())
    opened.bootstrap()
    require_account(opened.store, EC2)
    with pytest.raises(UsageError, match="may run in eu-west-1 only, and the store's account is set up in us-east-1"):
        require_account(opened.store, EC2.model_copy(update={"region": "eu-west-1"}))


def test_a_bucket_without_an_account_is_set_up_by_its_name_and_a_directory_cannot_be() -> None:
    of_bucket, of_directory = (why_not_here(url, None, None) for url in ("s3://jobs/mine", "file:///srv/store"))
    assert "run `elastic bootstrap --store s3://jobs/mine`, then submit again" in of_bucket
    assert "run `elastic bootstrap`, then submit again to the bucket that it makes" in of_directory
