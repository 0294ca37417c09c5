"""Records change by compare-and-swap only, whoever writes: the bucket's policy against every key that there is."""

import inspect
from collections.abc import Iterator

import pytest

from orchestrator.jobs import cloud_account, layout
from orchestrator.store import lease
from tests.deploy.policy_evaluation import is_denied
from tests.deploy.stack_template import BUCKET, statements

PUT = "s3:PutObject"
HTTPS = {"aws:SecureTransport": "true"}
WHOLE = {**HTTPS, "s3:ObjectCreationOperation": "true"}
PART = {**HTTPS, "s3:ObjectCreationOperation": "false"}

_ARGUMENTS = {
    "job": "digits",
    "instance": "digits-g1-n0-a0",
    "request": "r1",
    "number": 7,
    "seq": 7,
    "epoch": 2,
    "pin": "p1",
    "checkpoint": "jobs/digits/checkpoints/000000000007-g000001/",
    "step": 7,
    "generation": 1,
    "chunk": 3,
    "stream": "rank00000",
    "machine": "gpu-1",
}
RECORDS = {
    "spec_key",
    "record_key",
    "head_key",
    "event_key",
    "pin_key",
    "request_key",
    "assignment_key",
    "pool_machine_key",
}
"""Whose keys are only ever created or swapped."""
OTHERS = {"todo_key", "former_key", "decision_key", "manifest_key", "progress_key", "log_key", "heartbeat_key"}
"""Whose keys have one writer at a time, or are put back as they were: see where each is written."""


def keys(names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        function = getattr(layout, name)
        yield function(*(_ARGUMENTS[each] for each in inspect.signature(function).parameters))


RECORD_KEYS = [lease.LEASE_KEY, layout.IDENTITY, layout.POOL_ORDERS, cloud_account.ACCOUNT_KEY, *keys(RECORDS)]
OTHER_KEYS = [
    layout.BELL,
    *keys(OTHERS),
    "control/packages/0123/elastic-0.1.0-py3-none-any.whl",
    "jobs/digits/checkpoints/000000000007-g000001/model.pt",
    "data/train/cat/1.jpg",
]


def denied(key: str, context: dict[str, str], prefix: str = "") -> bool:
    policy = statements("BucketPolicy", StorePrefix=prefix)
    return is_denied(policy, PUT, f"arn:aws:s3:::{BUCKET}/{prefix}{key}", context)


def test_every_key_of_the_layout_is_said_to_be_a_record_or_not() -> None:
    functions = {name for name in vars(layout) if name.endswith("_key")}
    assert functions == RECORDS | OTHERS


@pytest.mark.parametrize("prefix", ["", "team/elastic/"])
@pytest.mark.parametrize("key", RECORD_KEYS)
def test_a_record_is_written_under_a_condition_or_not_at_all(key: str, prefix: str) -> None:
    assert denied(key, WHOLE, prefix)
    assert not denied(key, {**WHOLE, "s3:if-none-match": "*"}, prefix)
    assert not denied(key, {**WHOLE, "s3:if-match": '"etag"'}, prefix)


@pytest.mark.parametrize("key", RECORD_KEYS)
def test_the_parts_of_an_upload_pass_but_what_completes_it_is_held_to_the_rule(key: str) -> None:
    assert not denied(key, PART)
    assert denied(key, WHOLE)


@pytest.mark.parametrize("key", OTHER_KEYS)
def test_what_has_one_writer_is_simply_written(key: str) -> None:
    assert not denied(key, WHOLE)


@pytest.mark.parametrize("key", [*RECORD_KEYS, *OTHER_KEYS])
def test_nothing_goes_over_plain_http(key: str) -> None:
    conditional = {"s3:if-match": '"etag"', "s3:ObjectCreationOperation": "true"}
    for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
        for secure, expected in (("false", True), ("true", False)):
            context = {**conditional, "aws:SecureTransport": secure}
            assert is_denied(statements("BucketPolicy"), action, f"arn:aws:s3:::{BUCKET}/{key}", context) is expected


def test_a_file_of_a_checkpoint_that_is_called_like_a_record_is_refused() -> None:
    """IAM's `*` goes over slashes. A foreign trainer learns it at its first checkpoint, or from deploy/README.md."""
    assert denied("jobs/digits/checkpoints/000000000007-g000001/record.json", WHOLE)
    assert not denied("jobs/digits/checkpoints/000000000007-g000001/events.json", WHOLE)
