"""What is told from an endpoint's URL: whether its requests cost money, and what is wrong with it."""

import traceback
from collections.abc import Callable

import pytest

from orchestrator.errors import UsageError
from orchestrator.store import open_store
from orchestrator.store.s3 import make_client
from orchestrator.store.source import S3Source

OPENINGS: list[Callable[[], object]] = [lambda: open_store("s3://bucket", {}), lambda: S3Source("bucket", "prefix")]


@pytest.mark.parametrize(
    ("endpoint", "billed"),
    [
        ("https://account.r2.cloudflarestorage.com", True),
        ("https://s3.eu-central-003.backblazeb2.com", True),
        ("https://storage.googleapis.com:443", True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("http://8.8.8.8:9000", True),
        ("http://[2606:4700::1111]:9000", True),
        ("http://127.0.0.1:8333", False),
        ("http://10.1.2.3", False),
        ("http://192.168.1.7:9000", False),
        ("http://169.254.3.4", False),
        ("http://[::1]:8333", False),
        ("http://[fd00::7]:8333", False),
        ("http://[fe80::7]:8333", False),
        ("http://localhost:8333", False),
        ("http://minio:9000", False),
        ("http://s3.lan", False),
        ("http://store.office.internal.:8333", False),
        ("http://MINIO.storage.svc:9000", False),
        ("http://minio.storage.svc.cluster.local:9000", False),
        ("http://nas.local", False),
        ("http://s3.localhost:4566", False),
        ("https://local.example.com", True),
    ],
)
def test_all_but_a_server_in_ones_own_network_is_billed(
    endpoint: str, billed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sells storage sells requests too, not only AWS."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert open_store("s3://bucket/prefix", {}).billed is billed


def test_aws_itself_is_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert open_store("s3://bucket/prefix", {}).billed


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("endpoint", ["localhost:8333", "http://exa mple", "http://[host", "minio"])
def test_an_endpoint_that_is_no_url_is_a_mistake_of_use(
    opening: Callable[[], object], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with pytest.raises(UsageError, match="write AWS_ENDPOINT_URL_S3 as http://HOST:PORT or https://HOST"):
        opening()


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_profile_that_is_not_there_is_a_mistake_of_use(
    opening: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(UsageError, match=r"profile \(nobodys\) could not be found\. Check AWS_PROFILE"):
        opening()


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize(
    "endpoint",
    ["http://user:hunter2@host:8333", "https://user:hun/ter2@host", "user:hunter2@host", "http://user:hunter2@ho st"],
)
def test_a_password_in_the_endpoint_is_not_repeated(
    opening: Callable[[], object], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by anything that is printed of it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with pytest.raises(UsageError, match="endpoint of S3") as caught:
        opening()
    assert "ter2" not in "".join(traceback.format_exception(caught.value))


def test_the_region_is_the_one_that_aws_region_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 alone reads AWS_DEFAULT_REGION only, and would send an instance's requests to another region's endpoint."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert make_client().meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    monkeypatch.delenv("AWS_REGION")
    assert make_client().meta.region_name == "us-east-1"
