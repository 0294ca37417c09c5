"""`elastic bootstrap` on an account of moto's: made, made again, changed, shown, taken away."""

import json
import zipfile
from io import BytesIO
from typing import Any

import boto3
import pytest

from orchestrator.cloud_setup import tearing_down
from orchestrator.cloud_setup.clients import Clients
from orchestrator.cloud_setup.stack import Stack
from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import StoreIdentity
from orchestrator.jobs.cloud_account import ACCOUNT_KEY, CloudAccount, load_cloud_account
from orchestrator.store import document
from orchestrator.store.s3 import connect
from tests.cli.conftest import Elastic, elastic  # noqa: F401
from tests.deploy.conftest import BUCKET, IMAGE, IMAGE_PARAMETER, noting_requests
from tests.deploy.stack_template import ACCOUNT, REGION


def made(bootstrap: Elastic, *arguments: str) -> dict[str, Any]:
    outcome = bootstrap("-o", "json", *arguments)
    assert outcome.code == 0, outcome.err
    return dict(json.loads(outcome.out))


def account_in_store() -> CloudAccount:
    account = load_cloud_account(connect(BUCKET))
    assert account is not None
    return account


def stacks() -> list[str]:
    found = boto3.client("cloudformation").describe_stacks()["Stacks"]
    return [each["StackStatus"] for each in found]


def buckets() -> list[str]:
    return [each["Name"] for each in boto3.client("s3").list_buckets()["Buckets"]]


def test_an_empty_account_is_made_ready_for_instances(bootstrap: Elastic) -> None:
    told = made(bootstrap)
    account = account_in_store()
    assert told["store"] == account.store_url == f"s3://{BUCKET}"
    assert told["account"] == account.model_dump(exclude={"seq", "nonce"})
    assert account.environment == {"ELASTIC_BUCKET_OWNER": ACCOUNT}
    assert (account.account_id, account.region, account.ami_parameter) == (ACCOUNT, REGION, IMAGE_PARAMETER)
    zones = [each["ZoneName"] for each in boto3.client("ec2").describe_availability_zones()["AvailabilityZones"]]
    assert list(account.subnets) == sorted(zones)
    template = boto3.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=account.launch_template_id, Versions=[account.launch_template_version]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert template["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert template["SecurityGroupIds"] == [account.security_group_id]
    assert boto3.client("iam").get_role(RoleName="AWSServiceRoleForspot")  # moto's name for the role of spot instances


def test_the_package_in_the_store_is_this_elastic(bootstrap: Elastic) -> None:
    made(bootstrap)
    account = account_in_store()
    package = connect(BUCKET).get(account.package_key)
    assert package is not None
    names = zipfile.ZipFile(BytesIO(package.body)).namelist()
    assert {"orchestrator/agent/main.py", "trainer/__init__.py"} <= set(names)
    assert account.package_key.endswith(".whl") and f"/{account.package_sha256}/" in account.package_key


def test_the_stores_identity_is_what_the_rights_are_bound_to(bootstrap: Elastic) -> None:
    made(bootstrap)
    identity = document.load(connect(BUCKET), layout.IDENTITY, StoreIdentity)
    parameters = boto3.client("cloudformation").describe_stacks(StackName="elastic")["Stacks"][0]["Parameters"]
    assert identity is not None
    assert {"ParameterKey": "StoreId", "ParameterValue": identity.value.nonce} in parameters


def test_doing_it_twice_changes_nothing(bootstrap: Elastic) -> None:
    made(bootstrap)
    before = account_in_store()
    outcome = bootstrap()
    assert outcome.code == 0
    assert "Nothing had to be changed." in outcome.err
    assert account_in_store() == before
    assert made(bootstrap)["changes"] == []


def test_what_is_not_said_again_stays_as_it_was(bootstrap: Elastic) -> None:
    ec2 = boto3.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]
    arguments = ("--subnets", subnet["SubnetId"], "--volume", "321", "--data-bucket", "images", "--data-bucket", "more")
    made(bootstrap, *arguments)
    made(bootstrap)
    assert account_in_store().subnets == {subnet["AvailabilityZone"]: subnet["SubnetId"]}
    found = boto3.client("cloudformation").describe_stacks(StackName="elastic")["Stacks"][0]["Parameters"]
    parameters = {each["ParameterKey"]: each["ParameterValue"] for each in found}
    assert parameters["VolumeGiB"] == "321"
    assert parameters["DataArns"] == "arn:aws:s3:::images,arn:aws:s3:::images/*,arn:aws:s3:::more,arn:aws:s3:::more/*"


@pytest.mark.parametrize("named", [("--ami", IMAGE), ("--ami-parameter", IMAGE_PARAMETER)], ids=["ami", "parameter"])
def test_the_image_too_stays_as_it_was(aws: str, elastic: Elastic, named: tuple[str, str]) -> None:  # noqa: F811
    assert elastic("bootstrap", *named).code == 0
    before = account_in_store()
    outcome = elastic("bootstrap")
    assert outcome.code == 0 and "Nothing had to be changed." in outcome.err
    assert account_in_store() == before


def test_another_image_is_told_to_controllers(bootstrap: Elastic, aws: str) -> None:
    made(bootstrap)
    assert made(bootstrap, "--ami", aws)["account"]["ami"] == aws
    assert account_in_store().ami == aws


def test_what_another_version_has_told_controllers_is_told_anew(bootstrap: Elastic) -> None:
    made(bootstrap)
    before = account_in_store()
    connect(BUCKET).put(ACCOUNT_KEY, b'{"seq": 4, "nonce": "n", "words": "of tomorrow"}')
    made(bootstrap)
    assert account_in_store() == before.model_copy(update={"nonce": account_in_store().nonce})


def test_diff_shows_what_would_be_made_and_leaves_nothing_behind(bootstrap: Elastic) -> None:
    outcome = bootstrap("--diff", "-o", "json")
    assert outcome.code == 0
    changes = {each["resource"]: each["action"] for each in json.loads(outcome.out)}
    assert changes["Bucket"] == changes["LaunchTemplate"] == "Add"
    assert stacks() == [] and buckets() == []
    assert boto3.client("cloudformation").list_change_sets(StackName="elastic")["Summaries"] == []


def test_diff_of_what_is_there_shows_nothing(bootstrap: Elastic) -> None:
    made(bootstrap)
    outcome = bootstrap("--diff", "-o", "name")
    assert (outcome.code, outcome.out) == (0, "")
    assert "is as it would be made" in outcome.err


def test_the_table_names_the_parts_and_what_they_cost_at_rest(bootstrap: Elastic) -> None:
    outcome = bootstrap()
    rows = {line.split("  ")[0]: line for line in outcome.out.splitlines()}
    assert f"s3://{BUCKET}" in rows["store"] and "per GB and month" in rows["store"]
    assert [name for name, line in rows.items() if line.endswith("nothing")] == [
        *("launch template", "security group", "subnets", "image", "instance role", "controller role"),
        *("controller policy", "controller profile", "package"),
    ]
    assert f"export ELASTIC_STORE=s3://{BUCKET}" in outcome.err


def test_destroy_takes_the_stack_and_leaves_the_data(bootstrap: Elastic) -> None:
    made(bootstrap)
    connect(BUCKET).put("jobs/digits/record.json", b"{}")
    outcome = bootstrap("--destroy", "--yes")
    assert outcome.code == 0
    assert f"The bucket {BUCKET} stays" in outcome.err
    assert stacks() == [] and buckets() == [BUCKET]
    assert connect(BUCKET).get("jobs/digits/record.json") is not None
    assert connect(BUCKET).get(ACCOUNT_KEY) is None, "no controller may try to launch with what is gone"


def test_what_was_destroyed_is_made_again_around_the_same_data(bootstrap: Elastic) -> None:
    made(bootstrap)
    connect(BUCKET).put("jobs/digits/record.json", b"{}")
    identity = document.load(connect(BUCKET), layout.IDENTITY, StoreIdentity)
    bootstrap("--destroy", "--yes")
    with noting_requests() as asked:
        assert made(bootstrap)["store"] == f"s3://{BUCKET}"
    assert [each.get("ImportExistingResources") for each in asked.of("cloudformation.CreateChangeSet")] == [True]
    assert connect(BUCKET).get("jobs/digits/record.json") is not None
    assert document.load(connect(BUCKET), layout.IDENTITY, StoreIdentity) == identity


def test_a_bucket_that_stayed_is_the_stacks_again_also_when_it_is_named_as_the_store(bootstrap: Elastic) -> None:
    """That is what submit advises to whoever has destroyed the stack and kept the bucket."""
    made(bootstrap)
    bootstrap("--destroy", "--yes")
    made(bootstrap, "--store", f"s3://{BUCKET}")
    assert bootstrap("--destroy", "--yes", "--delete-bucket", BUCKET).code == 0
    assert buckets() == []


def test_another_stacks_bucket_is_used_as_it_is(bootstrap: Elastic) -> None:
    made(bootstrap)
    bootstrap("--destroy", "--yes")
    made(bootstrap, "--store", f"s3://{BUCKET}", "--stack", "another")
    outcome = bootstrap("--destroy", "--yes", "--stack", "another", "--delete-bucket", BUCKET)
    assert outcome.code == 2
    assert "which it did not make" in outcome.err


def test_destroying_nothing_is_no_error(bootstrap: Elastic) -> None:
    outcome = bootstrap("--destroy", "--yes")
    assert outcome.code == 0
    assert "nothing to remove" in outcome.err


def test_nobody_is_taken_to_have_agreed(bootstrap: Elastic) -> None:
    made(bootstrap)
    for arguments in (("--destroy",), ("--destroy", "--delete-bucket", BUCKET)):
        outcome = bootstrap(*arguments)
        assert outcome.code == 2
        assert "say so with --yes" in outcome.err
    assert stacks() == ["CREATE_COMPLETE"] and buckets() == [BUCKET]


def test_the_bucket_goes_only_when_its_name_is_given_too(bootstrap: Elastic) -> None:
    made(bootstrap)
    store = connect(BUCKET)
    store.put("jobs/digits/record.json", b"{}")
    store.put("jobs/digits/record.json", b"{ }")
    store.delete("jobs/digits/record.json")
    wrong = bootstrap("--destroy", "--yes", "--delete-bucket", "images")
    assert wrong.code == 2
    assert f"the bucket of this stack is {BUCKET}" in wrong.err
    assert stacks() == ["CREATE_COMPLETE"] and buckets() == [BUCKET]
    assert bootstrap("--destroy", "--yes", "--delete-bucket", BUCKET).code == 0
    assert stacks() == [] and buckets() == []


@pytest.mark.parametrize(
    ("typed", "goes"),
    [("y\n", False), ("elastic\n", False), (f"{BUCKET}\n", True)],
    ids=["y", "the stack", "the bucket"],
)
def test_on_a_terminal_the_buckets_name_has_to_be_typed(
    bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch, typed: str, goes: bool
) -> None:
    made(bootstrap)
    monkeypatch.setattr("orchestrator.cli.commands.bootstrap.on_terminal", lambda: True)
    outcome = bootstrap("--destroy", "--delete-bucket", BUCKET, stdin=typed)
    assert f"The bucket {BUCKET} holds" in outcome.err and "gone for good" in outcome.err
    assert outcome.code == (0 if goes else 1)
    assert (buckets(), stacks()) == (([], []) if goes else ([BUCKET], ["CREATE_COMPLETE"]))


def test_on_a_terminal_the_stack_goes_after_a_yes(bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    made(bootstrap)
    monkeypatch.setattr("orchestrator.cli.commands.bootstrap.on_terminal", lambda: True)
    assert bootstrap("--destroy", stdin="n\n").code == 1
    assert stacks() == ["CREATE_COMPLETE"]
    assert bootstrap("--destroy", stdin="y\n").code == 0
    assert stacks() == [] and buckets() == [BUCKET]


def test_a_bucket_that_was_left_can_be_removed_later(bootstrap: Elastic) -> None:
    made(bootstrap)
    bootstrap("--destroy", "--yes")
    assert bootstrap("--destroy", "--yes", "--delete-bucket", BUCKET).code == 0
    assert buckets() == []


def test_a_bucket_of_somebodys_own_is_neither_taken_nor_removed(bootstrap: Elastic) -> None:
    boto3.client("s3").create_bucket(Bucket="images")
    outcome = bootstrap("--bucket", "images")
    assert outcome.code == 2
    assert "was not made by elastic" in outcome.err and "--store s3://images/PREFIX" in outcome.err
    assert stacks() == []
    outcome = bootstrap("--destroy", "--yes", "--delete-bucket", "images")
    assert outcome.code == 2
    assert "was not made by the stack elastic" in outcome.err
    assert buckets() == ["images"]


def test_a_bucket_of_ones_own_can_be_the_store(bootstrap: Elastic) -> None:
    boto3.client("s3").create_bucket(Bucket="ours")
    assert made(bootstrap, "--store", "s3://ours/elastic")["store"] == "s3://ours/elastic"
    account = load_cloud_account(connect("ours", "elastic"))
    assert account is not None and account.environment == {}
    assert bootstrap("--destroy", "--yes").code == 0
    assert buckets() == ["ours"]


def test_a_stack_keeps_its_store(bootstrap: Elastic) -> None:
    made(bootstrap)
    assert made(bootstrap, "--store", f"s3://{BUCKET}")["changes"] == []
    outcome = bootstrap("--bucket", "another")
    assert outcome.code == 2
    assert f"keeps its store in s3://{BUCKET}" in outcome.err


def launch_for_the_store(image: str, bucket: str = BUCKET) -> str:
    """As a controller launches; gives the instance's id."""
    identity = document.load(connect(bucket), layout.IDENTITY, StoreIdentity)
    assert identity is not None
    ec2: Any = boto3.client("ec2")
    launched = ec2.run_instances(
        ImageId=image,
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "elastic:store", "Value": identity.value.nonce}]}
        ],
    )
    return str(launched["Instances"][0]["InstanceId"])


def test_while_instances_live_nothing_is_taken_away(bootstrap: Elastic, aws: str) -> None:
    made(bootstrap)
    launched = launch_for_the_store(aws)
    outcome = bootstrap("--destroy", "--yes")
    assert outcome.code == 2
    assert launched in outcome.err and "elastic reap" in outcome.err
    boto3.client("ec2").terminate_instances(InstanceIds=[launched])
    assert bootstrap("--destroy", "--yes").code == 0


def test_a_store_does_not_move_to_another_region_while_instances_live(
    bootstrap: Elastic, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Controllers would look for them there, and take them for gone."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://s3.{REGION}.amazonaws.com")  # within reach of all regions
    boto3.client("s3").create_bucket(Bucket="ours")
    made(bootstrap, "--store", "s3://ours")
    before = connect("ours").get(ACCOUNT_KEY)
    launched = launch_for_the_store(aws, "ours")

    outcome = bootstrap("--store", "s3://ours", "--region", "eu-west-1")
    assert outcome.code == 2
    assert f"1 instances of this store are still there ({launched}, in {REGION})" in outcome.err
    assert connect("ours").get(ACCOUNT_KEY) == before
    boto3.client("ec2").terminate_instances(InstanceIds=[launched])
    outcome = bootstrap("--store", "s3://ours", "--region", "eu-west-1")
    assert f"There is no SSM parameter {IMAGE_PARAMETER} in eu-west-1" in outcome.err  # it has come as far as that


def test_a_stack_that_the_store_has_left_goes_without_the_document(bootstrap: Elastic) -> None:
    made(bootstrap)
    moved = account_in_store().model_copy(update={"region": "eu-west-1"}).model_dump_json().encode()
    connect(BUCKET).put(ACCOUNT_KEY, moved)
    assert bootstrap("--destroy", "--yes").code == 0
    kept = connect(BUCKET).get(ACCOUNT_KEY)
    assert kept is not None and kept.body == moved, "controllers launch in the other region by it"


def test_a_store_does_not_move_to_an_account_that_cannot_see_the_other(bootstrap: Elastic) -> None:
    made(bootstrap)
    account = account_in_store()
    connect(BUCKET).put(
        ACCOUNT_KEY, account.model_copy(update={"account_id": "210987654321"}).model_dump_json().encode()
    )
    outcome = bootstrap()
    assert outcome.code == 2
    assert "in the account 210987654321" in outcome.err
    assert f"elastic bootstrap --destroy --region {REGION} first" in outcome.err


def test_what_is_launched_while_one_is_asked_keeps_the_stack(
    bootstrap: Elastic, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person takes a minute to say yes, and a controller launches meanwhile."""
    made(bootstrap)
    account = connect(BUCKET).get(ACCOUNT_KEY)
    assert account is not None
    launched: list[str] = []

    def say_yes(*_: object, **__: object) -> bool:
        launched.append(launch_for_the_store(aws))
        return True

    monkeypatch.setattr("orchestrator.cli.commands.bootstrap.on_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", say_yes)
    outcome = bootstrap("--destroy")
    assert outcome.code == 2
    assert launched[0] in outcome.err
    assert stacks() == ["CREATE_COMPLETE"]
    kept = connect(BUCKET).get(ACCOUNT_KEY)
    assert kept is not None and kept.body == account.body, "controllers go on with it"


def test_controllers_can_launch_no_more_when_instances_are_looked_for(
    bootstrap: Elastic, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(bootstrap)
    there: list[bool] = []
    check = tearing_down._check_no_instances

    def noting(clients: Clients, stack: Stack) -> None:
        there.append(connect(BUCKET).get(ACCOUNT_KEY) is not None)
        check(clients, stack)

    monkeypatch.setattr(tearing_down, "_check_no_instances", noting)
    assert bootstrap("--destroy", "--yes").code == 0
    assert there == [True, False]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stack", "my stack"), "letters, digits and hyphens"),
        (("--delete-bucket", "b"), "goes with --destroy"),
        (("--diff", "--destroy"), "use one of them"),
        (("--bucket", "b-1", "--store", "s3://b-2"), "use one of them"),
        (("--store", "file:///tmp/x"), "over the network only"),
        (("--volume", "3"), "30"),
    ],
)
def test_what_cannot_be_meant_is_refused(bootstrap: Elastic, arguments: tuple[str, ...], words: str) -> None:
    outcome = bootstrap(*arguments)
    assert outcome.code == UsageError.exit_code
    assert words in outcome.err
    assert outcome.out == ""
