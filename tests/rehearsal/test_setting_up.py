"""A rehearsal is set up as a person with an account would, by the same commands, and reaches nothing but loopback."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.utils import get_environ_proxies

from orchestrator.fleets.processes import marked_processes
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.rehearsal.account import Account
from orchestrator.rehearsal.guard import VARIABLE
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.person import STORE_URL, Person
from orchestrator.rehearsal.rehearsal import Conditions, Rehearsal, rehearsing
from tests.rehearsal.conftest import client
from tests.support.waiting import wait_until

pytestmark = pytest.mark.requires("seaweedfs")

REAL = {
    "AWS_PROFILE": "work",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ENDPOINT_URL_EC2": "https://ec2.us-east-1.amazonaws.com",
    "ELASTIC_STORE": "s3://real/store",
    "ELASTIC_BUCKET_OWNER": "210987654321",
}


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    directory = tmp_path_factory.mktemp("rehearsal")
    conditions = Conditions(zones=("us-east-1b", "us-east-1c"))
    with rehearsing(conditions, directory, {**os.environ, **REAL}, tell=lambda _words: None) as rehearsal:
        yield rehearsal
    assert marked_processes(str(directory), VARIABLE) == []


def person_of(rehearsal: Rehearsal) -> Person:
    environ = rehearsal.environ
    credentials = Credentials(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], "")
    return Person(rehearsal.account, "us-east-1", credentials)


def test_nothing_of_the_real_person_is_left_and_every_service_is_on_loopback(
    rehearsal: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "ELASTIC_BUCKET_OWNER"} & set(rehearsal.environ)
    assert rehearsal.environ["ELASTIC_STORE"] == STORE_URL
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in rehearsal.environ.items():
        monkeypatch.setenv(name, value)
    for service in ("ec2", "iam", "cloudformation", "ssm", "sts", "pricing", "service-quotas", "s3"):
        endpoint = boto3.session.Session().client(service).meta.endpoint_url
        assert urlsplit(endpoint).hostname == "127.0.0.1", service


def test_bootstrap_has_made_an_account_for_the_zones_that_were_asked_for(rehearsal: Rehearsal) -> None:
    s3 = person_of(rehearsal).client("s3", rehearsal.environ["AWS_ENDPOINT_URL_S3"])
    stored = s3.get_object(Bucket="elastic-rehearsal", Key="store/control/ec2.json")["Body"].read()
    account = CloudAccount.model_validate_json(stored)
    assert set(account.subnets) == {"us-east-1b", "us-east-1c"}
    assert account.store_url == STORE_URL
    assert account.environment["AWS_ENDPOINT_URL_S3"] == rehearsal.environ["AWS_ENDPOINT_URL_S3"]
    assert s3.head_object(Bucket="elastic-rehearsal", Key=f"store/{account.package_key}")["ContentLength"] > 100_000


def test_the_controller_may_do_what_its_policy_says_and_nothing_else(rehearsal: Rehearsal) -> None:
    person = person_of(rehearsal)
    assert person.client("ec2").describe_instances()["Reservations"] == []
    for service, call in (("ec2", "describe_vpcs"), ("iam", "list_users"), ("cloudformation", "list_stacks")):
        with pytest.raises(ClientError) as caught:
            getattr(person.client(service), call)()
        assert caught.value.response["Error"]["Code"] in ("UnauthorizedOperation", "AccessDenied"), call
    with pytest.raises(ClientError):
        client(rehearsal.account, "ec2").describe_instances()  # a key that opens nothing


def test_the_controller_leads_and_comes_back(rehearsal: Rehearsal) -> None:
    log = rehearsal.controller.log
    wait_until(lambda: "leading, epoch 1" in log.read_text(), "a leader")
    rehearsal.begin()
    rehearsal.controller.kill()
    wait_until(lambda: "leading, epoch 2" in log.read_text(), "another leader")


def test_no_proxy_of_the_persons_is_asked_for_what_is_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person(Account("http://127.0.0.1:1"), "us-east-1", Credentials("key", "secret", ""))
    theirs = {"http_proxy": "http://proxy.example:3128", "no_proxy": "intranet.example"}
    for name, value in person.environ(theirs, "http://127.0.0.1:2").items():
        monkeypatch.setenv(name, value)
    assert get_environ_proxies("http://127.0.0.1:2/elastic-rehearsal") == {}
