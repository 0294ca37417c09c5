"""Credentials that cannot be got are for a person to mend, however botocore says so."""

import json
import os
import secrets
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3.session
import pytest

from orchestrator.store import Store, StoreDenied, open_store
from orchestrator.store.s3_requests import Requests

SOON = timedelta(minutes=5)
"""Credentials that expire so soon are got anew for every request."""


def credentials(expire_in: timedelta) -> str:
    """What a `credential_process` prints."""
    said = {"Version": 1, "AccessKeyId": "AKIAX", "SecretAccessKey": "secret", "SessionToken": "token"}
    return json.dumps({**said, "Expiration": (datetime.now(UTC) + expire_in).isoformat()})


def prints(program: Path, text: str) -> None:
    program.write_text(f"#!{sys.executable}\nprint({text!r})\n")
    program.chmod(stat.S_IRWXU)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `credential_process` of the only profile there is; it works."""
    program = tmp_path / "credentials.py"
    prints(program, credentials(SOON))
    (tmp_path / "config").write_text(f"[profile mine]\ncredential_process = {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    return program


@pytest.fixture
def store(bucket: str, program: Path) -> Store:
    store = open_store(f"s3://{bucket}/{secrets.token_hex(6)}", os.environ)
    store.put("key", b"1")
    return store


@pytest.mark.parametrize(
    ("goes_wrong", "words"),
    [
        (lambda program: prints(program, credentials(-SOON)), "the refreshed credentials are still expired"),
        (lambda program: prints(program, "Your session is over, log in."), "Expecting value"),
        (lambda program: prints(program, "[]"), "no attribute"),
        (lambda program: program.unlink(), "No such file or directory"),
        (lambda program: program.chmod(0o600), "Permission denied|Exec format error"),
    ],
    ids=["expired", "no JSON", "another JSON", "gone", "not to be run"],
)
def test_a_credential_process_that_fails_is_said_and_works_again_after_a_login(
    store: Store, program: Path, goes_wrong: Callable[[Path], None], words: str
) -> None:
    """A daemon waits for a login; by any other error it would end as by a fault of its own."""
    goes_wrong(program)
    for use in (lambda: store.get("key"), lambda: store.create("new", b"1")):
        with pytest.raises(StoreDenied, match=rf"No AWS credentials for s3://.*({words}).*: log in again") as caught:
            use()
        assert caught.value.exit_code == 4
    prints(program, credentials(SOON))
    found = store.get("key")
    assert found is not None and found.body == b"1"


@pytest.mark.parametrize(
    ("goes_wrong", "words"),
    [
        (lambda program: prints(program, "Your session is over, log in."), "Expecting value"),
        (lambda program: prints(program, "{}"), "Version"),
        (lambda program: program.unlink(), "No such file or directory"),
    ],
    ids=["no JSON", "another JSON", "gone"],
)
def test_a_credential_process_that_fails_when_the_store_is_opened_is_said(
    bucket: str, program: Path, goes_wrong: Callable[[Path], None], words: str
) -> None:
    goes_wrong(program)
    with pytest.raises(StoreDenied, match=rf"No AWS credentials for S3 \(.*({words}).*: log in again") as caught:
        open_store(f"s3://{bucket}/prefix", os.environ)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("error", [OSError("the disk"), ValueError("a number"), RuntimeError("a thread")])
def test_an_error_that_is_not_of_credentials_stays_what_it_is(error: Exception) -> None:
    client = boto3.session.Session().client("s3", region_name="us-east-1")

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Requests(client, "bucket").send("key", fail)
    assert caught.value is error
