"""Buckets that cannot be used as they are, through the real command: one sentence that says why and what to do.

AWS's answers are put in at botocore's events, as AWS gives them: an error of HEAD has no body.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from orchestrator.errors import CredentialsError, UsageError
from orchestrator.store import StoreError
from orchestrator.store.s3 import connect
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import JOB_YAML
from tests.support.moto_server import environment, make_bucket, running_moto

STORE = "s3://odd-bucket/jobs"


@dataclass(frozen=True)
class Oddity:
    """What is wrong with a bucket, or whoever asks: how AWS answers, and what a person is told."""

    status: int
    code: str
    more: str
    exit_code: int
    words: tuple[str, ...]


USAGE, CREDENTIALS = UsageError.exit_code, CredentialsError.exit_code
IRELAND = "<Region>eu-west-1</Region>"
CLOCKS = "<RequestTime>20261128T120000Z</RequestTime><ServerTime>2026-11-28T11:00:00Z</ServerTime>"

ODDITIES = {
    "in another region": Oddity(
        301, "PermanentRedirect", IRELAND, USAGE, ("another region, eu-west-1", "Set AWS_REGION to eu-west-1")
    ),
    "in another region, signed for this one": Oddity(
        400,
        "AuthorizationHeaderMalformed",
        IRELAND,
        USAGE,
        ("another region, eu-west-1", "Set AWS_REGION to eu-west-1"),
    ),
    "of another account": Oddity(
        403, "AccessDenied", "", CREDENTIALS, ("AccessDenied", "ELASTIC_BUCKET_OWNER", "must belong to that account")
    ),
    "an hour ahead": Oddity(
        403,
        "RequestTimeTooSkewed",
        CLOCKS,
        CREDENTIALS,
        ("clock is wrong", "20261128T120000Z", "2026-11-28T11:00", "set it"),
    ),
    "credentials of yesterday": Oddity(
        400, "ExpiredToken", "", CREDENTIALS, ("credentials have expired", "log in again", "AWS_PROFILE")
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    """A bucket that could be used, were it not for the answers."""
    with running_moto() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(url).items():
            patch.setenv(name, value)
        make_bucket("odd-bucket")
        yield


@pytest.fixture(params=ODDITIES)
def oddity(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Oddity:
    """From now on every request is answered so."""
    odd = ODDITIES[request.param]

    def answer(request: Any, **_: object) -> AWSResponse:
        body = b"" if request.method == "HEAD" else _xml(odd)
        region = {"x-amz-bucket-region": "eu-west-1"} if odd.more == IRELAND else {}
        return AWSResponse(request.url, odd.status, HTTPHeaders.from_dict(region), _Raw(body))

    class Answered(boto3.session.Session):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.events.register("before-send.s3", cast("Callable[..., None]", answer))

    monkeypatch.setattr(boto3.session, "Session", Answered)
    return odd


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


def _xml(odd: Oddity) -> bytes:
    return f"<Error><Code>{odd.code}</Code><Message>no</Message>{odd.more}</Error>".encode()


@pytest.mark.parametrize("command", [("ps",), ("show", "digits"), ("submit", "job.yaml", "--no-daemon")])
def test_a_command_says_why_the_store_is_no_use(
    elastic: Elastic, oddity: Oddity, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    monkeypatch.chdir(tmp_path)
    outcome = elastic("--store", STORE, *command)
    assert (outcome.code, outcome.out) == (oddity.exit_code, ""), outcome.err
    [message] = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert "odd-bucket" in message
    for word in oddity.words:
        assert word in message


@pytest.mark.parametrize("use", ["upload", "download"])
def test_a_transfer_says_why_though_head_has_no_words(oddity: Oddity, use: str, tmp_path: Path) -> None:
    store = connect("odd-bucket", "jobs")
    (tmp_path / "file").write_bytes(b"1")
    uses: dict[str, Callable[[], object]] = {
        "upload": lambda: store.upload(tmp_path / "file", "file"),
        "download": lambda: store.download("file", tmp_path / "new"),
    }
    with pytest.raises(StoreError) as caught:
        uses[use]()
    assert caught.value.exit_code == oddity.exit_code
    for word in oddity.words[1:]:
        assert word in str(caught.value)


def test_without_credentials_a_command_says_how_to_give_some(elastic: Elastic, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    outcome = elastic("--store", STORE, "ps")
    assert (outcome.code, outcome.out) == (CredentialsError.exit_code, ""), outcome.err
    assert "No AWS credentials for s3://odd-bucket" in outcome.err and "set AWS_PROFILE" in outcome.err
