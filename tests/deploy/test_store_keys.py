"""A store at another S3 service: its keys go into one parameter of SSM, which instances may read, and nowhere else."""

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from orchestrator.fleets.ec2.user_data import user_data
from orchestrator.fleets.protocol import LaunchRequest
from orchestrator.jobs.cloud_account import CloudAccount, load_cloud_account
from orchestrator.store.s3 import connect
from orchestrator.store.s3_keys import KEY_ID, PARAMETER, SECRET, Keys
from tests.cli.conftest import Elastic
from tests.deploy.policy_evaluation import is_allowed
from tests.deploy.stack_template import ACCOUNT, REGION, resources, statements

NAME = "/elastic/elastic/store"
ARN = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{NAME}"
THERE = ("--store", "s3://ours/team")


@pytest.fixture(autouse=True)
def elsewhere(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as moto plays it, another service is the same one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://s3.{REGION}.amazonaws.com")
    boto3.client("s3").create_bucket(Bucket="ours")
    monkeypatch.setenv(KEY_ID, "own-key")
    monkeypatch.setenv(SECRET, "own-secret")


def parameter() -> Any:
    return boto3.client("ssm").get_parameter(Name=NAME, WithDecryption=True)["Parameter"]


def account() -> CloudAccount:
    found = load_cloud_account(connect("ours", "team"))
    assert found is not None
    return found


def test_the_keys_are_in_ssm_alone(bootstrap: Elastic) -> None:
    outcome = bootstrap(*THERE, "--yes", "-o", "json")
    assert outcome.code == 0, outcome.err
    assert (parameter()["Type"], Keys.from_json(parameter()["Value"])) == (
        "SecureString",
        Keys("own-key", "own-secret"),
    )
    assert account().environment[PARAMETER] == NAME
    asked = LaunchRequest("digits-g1-n0-a0", "digits", 1, "g6.xlarge", 1, 1)
    stack = boto3.client("cloudformation").describe_stacks(StackName="elastic")["Stacks"][0]
    stored = [
        each.body.decode(errors="replace")
        for key in ("control/ec2.json", "control/identity.json")
        if (each := connect("ours", "team").get(key))
    ]
    for text in (outcome.out, outcome.err, user_data(asked, account()), json.dumps(stack, default=str), *stored):
        assert "own-secret" not in text
    assert f"export {PARAMETER}={NAME}" in user_data(asked, account())


def test_sent_twice_nothing_changes_and_new_ones_are_sent(bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap(*THERE, "--yes")
    assert "Nothing had to be changed." in bootstrap(*THERE, "--yes").err
    assert parameter()["Version"] == 1
    monkeypatch.setenv(SECRET, "new-secret")
    assert "Nothing had to be changed." not in bootstrap(*THERE, "--yes").err
    assert Keys.from_json(parameter()["Value"]).secret_access_key == "new-secret"
    monkeypatch.delenv(KEY_ID)
    monkeypatch.delenv(SECRET)
    assert bootstrap(*THERE).code == 0, "what is not said again stays as it was"
    assert account().environment[PARAMETER] == NAME
    assert parameter()["Version"] == 2


def test_nothing_is_sent_unasked(bootstrap: Elastic) -> None:
    outcome = bootstrap(*THERE)
    assert outcome.code == 2
    assert f"the SSM parameter {NAME}" in outcome.err and "--yes" in outcome.err
    with pytest.raises(ClientError, match="ParameterNotFound"):
        parameter()
    assert boto3.client("cloudformation").describe_stacks()["Stacks"] == []


def test_a_bucket_of_the_stacks_own_needs_none(bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert bootstrap("--yes").code == 0
    with pytest.raises(ClientError, match="ParameterNotFound"):
        parameter()


def test_they_go_with_the_stack(bootstrap: Elastic) -> None:
    bootstrap(*THERE, "--yes")
    assert bootstrap("--destroy", "--yes").code == 0
    with pytest.raises(ClientError, match="ParameterNotFound"):
        parameter()
    assert bootstrap("--destroy", "--yes").code == 0


def test_the_instances_role_reads_this_parameter_and_no_other() -> None:
    allowed = statements("KeysPolicy", StoreKeysArn=ARN)
    assert is_allowed(allowed, "ssm:GetParameter", ARN, {})
    for action, resource in (
        ("ssm:GetParameter", f"{ARN}2"),
        ("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/elastic/other/store"),
        ("ssm:PutParameter", ARN),
        ("ssm:DeleteParameter", ARN),
    ):
        assert not is_allowed(allowed, action, resource, {})
    assert "KeysPolicy" not in resources()
