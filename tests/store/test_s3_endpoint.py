"""What is told from an endpoint's URL: whether its requests cost money, and what is wrong with it."""

import pytest

from orchestrator.store import open_store


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
