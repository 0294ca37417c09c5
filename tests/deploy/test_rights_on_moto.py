"""Fleet, store, controller's and agent's requests with the roles' own credentials, on moto with its IAM enforced.

moto weighs actions, and resources only of S3; conditions and EC2's resources it gets wrong, and tagging and passing a
role it does not ask about. So it is given the policies without them, and of the three statements about launches sees
only that one is there. The rest is weighed in `test_controller_rights` and `test_store_rights`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import boto3.session
import pytest
from botocore.exceptions import ClientError
from moto.core.authorization import disable_iam_authentication, enable_iam_authentication

from orchestrator.errors import ElasticError
from orchestrator.fleets.protocol import LaunchError
from orchestrator.jobs import layout
from orchestrator.jobs.cloud_account import CloudAccount
from orchestrator.store.s3 import connect
from tests.deploy.conftest import BUCKET, an_account, made_account
from tests.deploy.fleet_requests import use_fleet
from tests.deploy.stack_template import ACCOUNT, REGION, statements

LARGE_BYTES = 40 * 1024**2
"""More than goes in one piece."""
SEEN_BY_MOTO = ["EndInstances", "Look", "FindImage", "UseStore", "ListStore"]
IN_HASTE = "GoOnWithUploads"
"""Without it an upload that was broken off begins anew: nothing fails, and time is lost when there is least."""
REFUSED = "is missing|was refused|not authorized"
_TRUST = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}


@pytest.fixture(scope="module")
def account() -> Iterator[CloudAccount]:
    with an_account():
        _, made = made_account()
        yield made.account


@pytest.fixture
def enforced(account: CloudAccount) -> Iterator[None]:
    with enable_iam_authentication():
        yield


def as_role(policy: Sequence[Any]) -> boto3.session.Session:
    """A session with the credentials of a role that has these statements, as far as moto can weigh them."""
    flat = [
        {
            "Effect": each["Effect"],
            "Action": each["Action"],
            "Resource": each["Resource"] if "s3:" in str(each["Action"]) else "*",
        }
        for each in policy
    ]
    with disable_iam_authentication():
        iam = boto3.client("iam")
        name = f"role{len(iam.list_roles()['Roles'])}"
        document = {"Version": "2012-10-17", "Statement": flat}
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [_TRUST]}))["Role"]
        iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=json.dumps(document))
        keys = boto3.client("sts").assume_role(RoleArn=role["Arn"], RoleSessionName="test")["Credentials"]
    return boto3.session.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], region_name=REGION)


def policy(name: str, without: str = "") -> list[Any]:
    return [each for each in statements(name, BucketName=BUCKET) if each["Sid"] != without]


def act_as_controller(session: boto3.session.Session, account: CloudAccount, file: Path) -> None:
    """The fleet, and in the store what a controller and people do."""
    use_fleet(account, "store-1", session)
    store = connect(BUCKET, session=session)
    etag = store.create(layout.record_key("digits"), b"1")
    store.replace(layout.record_key("digits"), b"2", etag)
    store.put(layout.BELL, b"ring")
    assert [entry.key for entry in store.list("jobs/")] == [layout.record_key("digits")]
    store.upload(file, "control/packages/0/file.whl")
    store.abort_uploads("jobs/", 0.0)
    store.delete("control/packages/0/file.whl")
    store.delete(layout.record_key("digits"))


def act_as_agent(session: boto3.session.Session, package_key: str, file: Path) -> None:
    """What an agent does with its store, from boot to the end."""
    store = connect(BUCKET, session=session)
    assert store.get(package_key) is not None
    assert store.get(layout.assignment_key("digits-g1-n0-a0")) is None
    store.put(layout.heartbeat_key("digits-g1-n0-a0"), b"alive")
    checkpoint = layout.checkpoint_prefix("digits", 7, 1)
    store.upload(file, f"{checkpoint}model.pt")
    store.create(layout.manifest_key(checkpoint), b"{}")
    head = store.create(layout.head_key("digits"), b"{}")
    store.replace(layout.head_key("digits"), b"{ }", head)
    store.create(layout.log_key("digits", 1, layout.rank_stream(0), 0), b"line")
    store.create(layout.progress_key("digits", 1, 0), b"{}")
    for entry in list(store.list(checkpoint)):
        store.delete(entry.key)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("files") / "model.pt"
    file.write_bytes(b"\0" * LARGE_BYTES)
    return file


@pytest.fixture(autouse=True)
def store_as_it_was(account: CloudAccount) -> Iterator[None]:
    """What a test that was refused has left in the bucket must not meet the next."""
    yield
    objects = boto3.resource("s3").Bucket(BUCKET).object_versions
    objects.filter(Prefix="jobs/").delete()
    objects.filter(Prefix="instances/").delete()
    for instance in boto3.resource("ec2").instances.all():
        instance.terminate()


def test_a_controller_can_do_all_that_it_does(enforced: None, account: CloudAccount, large: Path) -> None:
    act_as_controller(as_role(policy("ControllerPolicy")), account, large)


@pytest.mark.parametrize("sid", SEEN_BY_MOTO)
def test_without_any_of_its_statements_it_cannot(enforced: None, account: CloudAccount, large: Path, sid: str) -> None:
    with pytest.raises((ElasticError, LaunchError), match=REFUSED):
        act_as_controller(as_role(policy("ControllerPolicy", sid)), account, large)


def test_an_agent_can_do_all_that_it_does(enforced: None, account: CloudAccount, large: Path) -> None:
    act_as_agent(as_role(policy("InstancePolicy")), account.package_key, large)


@pytest.mark.parametrize("sid", [each["Sid"] for each in statements("InstancePolicy") if each["Sid"] != IN_HASTE])
def test_without_any_of_its_statements_an_agent_cannot(
    enforced: None, account: CloudAccount, large: Path, sid: str
) -> None:
    with pytest.raises(ElasticError, match=REFUSED):
        act_as_agent(as_role(policy("InstancePolicy", sid)), account.package_key, large)


def test_an_agent_cannot_launch_anything(enforced: None) -> None:
    ec2 = as_role(policy("InstancePolicy")).client("ec2")
    with pytest.raises(ClientError, match="not authorized to perform: ec2:RunInstances"):
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1, InstanceType="p5.48xlarge")
