"""The template as AWS would take it, and what of an account's safety rests on it."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cloud_setup.template import template_body, template_path
from tests.deploy.stack_template import resources, statements, template

MAX_BODY_BYTES = 51_200
"""What CloudFormation takes without a bucket to fetch it from."""


def test_cfn_lint_finds_nothing() -> None:
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(template_path())]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (answer.returncode, answer.stdout) == (0, ""), answer.stderr


def test_it_fits_into_a_request() -> None:
    assert len(template_body().encode()) < MAX_BODY_BYTES


def test_the_bucket_is_private_encrypted_and_keeps_versions() -> None:
    bucket = resources()["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_the_bucket_outlives_the_stack_but_not_a_stack_that_was_never_made() -> None:
    bucket = template()["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"
    assert bucket["UpdateReplacePolicy"] == "Retain"


def test_what_was_removed_is_not_paid_for_for_ever() -> None:
    rules = {
        rule["Id"]: rule
        for rule in resources(StorePrefix="here/")["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    }
    assert rules["aborted-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert rules["removed-checkpoints"]["Prefix"] == "here/jobs/"
    assert rules["removed-checkpoints"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 1}
    assert rules["former-versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"] > 1
    assert {rule["Status"] for rule in rules.values()} == {"Enabled"}
    assert not [rule for rule in rules.values() if "ExpirationInDays" in rule], "what is current never expires"


def test_nothing_comes_in_but_from_the_group_itself() -> None:
    made = resources()
    assert "SecurityGroupIngress" not in made["SecurityGroup"]["Properties"]
    ingress = [each["Properties"] for each in made.values() if each["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert [(each["GroupId"], each["SourceSecurityGroupId"]) for each in ingress] == [("sg-1", "sg-1")]
    assert [each for each in ingress if "CidrIp" in each or "CidrIpv6" in each] == []


def test_only_https_goes_out() -> None:
    egress = resources()["SecurityGroup"]["Properties"]["SecurityGroupEgress"]
    assert {(each["IpProtocol"], each["FromPort"], each["ToPort"]) for each in egress} == {("tcp", 443, 443)}


def test_an_instance_ends_when_it_shuts_down_and_guards_its_credentials() -> None:
    launch = resources()["LaunchTemplate"]["Properties"]["LaunchTemplateData"]
    assert launch["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert launch["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "enabled",
    }
    (disk,) = launch["BlockDeviceMappings"]
    assert disk["Ebs"] == {"VolumeType": "gp3", "VolumeSize": 100, "Encrypted": True, "DeleteOnTermination": True}
    assert "UserData" not in launch and "KeyName" not in launch


def test_with_a_bucket_of_ones_own_none_is_made_nor_its_policy_changed() -> None:
    made = resources(MakeBucket="false")
    assert "Bucket" not in made and "BucketPolicy" not in made
    assert statements("InstancePolicy", MakeBucket="false") == statements("InstancePolicy")


@pytest.mark.parametrize("policy", ["InstancePolicy", "DataPolicy", "KeysPolicy", "ControllerPolicy"])
def test_a_statement_has_a_name_and_no_right_is_for_everything(policy: str) -> None:
    for statement in statements(policy, StoreKeysArn="arn:aws:ssm:us-east-1:123456789012:parameter/elastic/e/store"):
        assert statement["Sid"]
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert [action for action in actions if "*" in action] == []
        if statement["Resource"] == "*":
            assert statement["Sid"] == "Look", "only what cannot be narrowed"
