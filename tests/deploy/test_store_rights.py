"""The rights of instances and controllers in the bucket suffice for what they do, and none is there for nothing.

What they do is asked of the real agents, controllers and people in the simulator, in trouble and out of it; what a
real S3 store does beyond that, with large files, is said here.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.deploy.policy_evaluation import is_allowed
from tests.deploy.stack_template import BUCKET, statements
from tests.deploy.store_requests import Request, requests_of

SEEDS = range(7_000, 7_020)
CHECKPOINT = f"arn:aws:s3:::{BUCKET}/jobs/digits/checkpoints/000000000007-g000001/model.pt"
HTTPS = (("aws:SecureTransport", "true"),)
PART = (*HTTPS, ("s3:ObjectCreationOperation", "false"))
PACKAGE = f"arn:aws:s3:::{BUCKET}/control/packages/0123/elastic-0.1.0-py3-none-any.whl"
BEYOND = {
    Request(True, "s3:GetObject", PACKAGE, HTTPS),  # at boot
    Request(True, "s3:PutObject", CHECKPOINT, PART),
    Request(True, "s3:ListMultipartUploadParts", CHECKPOINT, HTTPS),  # a second try goes on with what is there
    Request(True, "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/jobs/digits/pins/p1.json", HTTPS),  # a dead reader's
    Request(False, "s3:AbortMultipartUpload", CHECKPOINT, HTTPS),  # what killed agents have left
    Request(False, "s3:PutObject", CHECKPOINT, PART),
    Request(False, "s3:ListMultipartUploadParts", CHECKPOINT, HTTPS),
}


@pytest.fixture(scope="module")
def asked() -> set[Request]:
    """Everything that was asked for."""
    return requests_of(SEEDS) | BEYOND


def refused(requests: set[Request], instance: Sequence[Any], controller: Sequence[Any]) -> set[Request]:
    """The requests that AWS would refuse with these statements of the roles and those of the bucket."""
    bucket = statements("BucketPolicy")
    return {
        each
        for each in requests
        if not is_allowed(
            [*bucket, *(instance if each.by_agent else controller)], each.action, each.resource, dict(each.context)
        )
    }


def test_nothing_that_is_done_is_refused(asked: set[Request]) -> None:
    assert len([each for each in asked if each.by_agent]) > 20
    assert refused(asked, statements("InstancePolicy"), statements("ControllerPolicy")) == set()


@pytest.mark.parametrize("sid", [each["Sid"] for each in statements("InstancePolicy")])
def test_each_statement_of_the_instances_is_needed(asked: set[Request], sid: str) -> None:
    fewer = [each for each in statements("InstancePolicy") if each["Sid"] != sid]
    missing = refused(asked, fewer, statements("ControllerPolicy"))
    assert missing and {each.by_agent for each in missing} == {True}


@pytest.mark.parametrize("sid", ["UseStore", "ListStore"])
def test_each_statement_of_a_controller_is_needed(asked: set[Request], sid: str) -> None:
    fewer = [each for each in statements("ControllerPolicy") if each["Sid"] != sid]
    missing = refused(asked, statements("InstancePolicy"), fewer)
    assert missing and {each.by_agent for each in missing} == {False}


def pairs(policy: str) -> list[tuple[str, str]]:
    """Each action with each resource of a policy's statements about the bucket."""
    return [
        (action, resource)
        for each in statements(policy)
        for action in (each["Action"] if isinstance(each["Action"], list) else [each["Action"]])
        for resource in (each["Resource"] if isinstance(each["Resource"], list) else [each["Resource"]])
        if action.startswith("s3:")
    ]


@pytest.mark.parametrize(("action", "resource"), pairs("InstancePolicy"))
def test_not_even_a_part_of_a_statement_is_there_for_nothing(asked: set[Request], action: str, resource: str) -> None:
    if resource.endswith("/data/*"):
        return  # for images of a person's own, which no simulated trainer reads
    only = [{"Sid": "One", "Effect": "Allow", "Action": action, "Resource": resource}]
    mine = {each for each in asked if each.by_agent}
    assert refused(mine, only, []) != mine, f"no agent needs {action} on {resource}"


@pytest.mark.parametrize(
    ("action", "key"),
    [
        ("s3:PutObject", "jobs/digits/record.json"),
        ("s3:PutObject", "jobs/digits/spec.json"),
        ("s3:PutObject", "instances/digits-g1-n0-a0/assignment.json"),
        ("s3:PutObject", "control/lease.json"),
        ("s3:PutObject", "control/packages/0123/elastic-0.1.0-py3-none-any.whl"),
        ("s3:PutObject", "data/train/cat.jpg"),
        ("s3:GetObject", "control/lease.json"),
        ("s3:GetObject", "somebody/elses.txt"),
        ("s3:DeleteObject", "jobs/digits/record.json"),
        ("s3:DeleteObject", "jobs/digits/head.json"),
    ],
)
def test_an_instance_cannot_do_a_controllers_work_nor_look_elsewhere(action: str, key: str) -> None:
    context = {"aws:SecureTransport": "true", "s3:ObjectCreationOperation": "true", "s3:if-match": "etag"}
    assert not is_allowed(statements("InstancePolicy"), action, f"arn:aws:s3:::{BUCKET}/{key}", context)


def test_versions_of_what_was_written_over_are_out_of_reach_for_both() -> None:
    for policy in ("InstancePolicy", "ControllerPolicy"):
        assert not is_allowed(statements(policy), "s3:DeleteObjectVersion", CHECKPOINT, {"aws:SecureTransport": "true"})


def test_other_buckets_are_read_where_they_are_named() -> None:
    assert is_allowed(statements("DataPolicy"), "s3:GetObject", "arn:aws:s3:::images/cat.jpg", {})
    assert is_allowed(statements("DataPolicy"), "s3:ListBucket", "arn:aws:s3:::images", {})
    assert not is_allowed(statements("DataPolicy"), "s3:PutObject", "arn:aws:s3:::images/cat.jpg", {})
    assert not is_allowed(statements("DataPolicy"), "s3:GetObject", "arn:aws:s3:::others/cat.jpg", {})
