"""A store with keys of its own: its requests alone are signed by them, and no text shows the secret."""

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from orchestrator.agent.launcher import worker_environment
from orchestrator.errors import UsageError
from orchestrator.store import s3_keys
from orchestrator.store.open import open_store
from orchestrator.store.protocol import StoreDenied
from orchestrator.store.s3 import make_client
from orchestrator.store.s3_keys import KEY_ID, PARAMETER, SECRET, Keys

OWN = Keys("own-key", "own-secret")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("AWS_ACCESS_KEY_ID", "aws-key"), ("AWS_SECRET_ACCESS_KEY", "aws-secret")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3_keys._fetched.cache_clear()
    with mock_aws(config={"core": {"mock_credentials": False}}):
        yield
    s3_keys._fetched.cache_clear()


def signed_by() -> str:
    """Whose key a request to the store is signed with."""
    boto3.client("s3").create_bucket(Bucket="bucket")
    seen: list[str] = []
    client = make_client()
    client.meta.events.register("before-send.s3", lambda request, **_: seen.append(str(request.headers)))
    client.list_objects_v2(Bucket="bucket")
    [headers] = seen
    return headers.partition("Credential=")[2].partition("/")[0]


def test_without_keys_of_its_own_the_store_is_opened_as_all_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signed_by() == "aws-key"
    monkeypatch.setenv(KEY_ID, "")
    monkeypatch.setenv(SECRET, "")
    assert signed_by() == "aws-key"


def test_with_them_only_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ID, OWN.access_key_id)
    monkeypatch.setenv(SECRET, OWN.secret_access_key)
    assert signed_by() == "own-key"
    credentials = boto3.session.Session().get_credentials()
    assert credentials is not None
    assert credentials.access_key == "aws-key"


def test_an_instance_asks_for_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ssm = boto3.client("ssm")
    ssm.put_parameter(Name="/elastic/elastic/store", Value=OWN.as_json(), Type="SecureString")
    monkeypatch.setenv(PARAMETER, "/elastic/elastic/store")
    assert signed_by() == "own-key"
    ssm.delete_parameter(Name="/elastic/elastic/store")
    assert signed_by() == "own-key"


@pytest.mark.parametrize("value", [None, "{}", "no JSON", "[]"])
def test_a_parameter_that_does_not_have_them_is_named_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        boto3.client("ssm").put_parameter(Name="/keys", Value=value, Type="SecureString")
    monkeypatch.setenv(PARAMETER, "/keys")
    with pytest.raises(StoreDenied, match="The store's keys cannot be read from the SSM parameter /keys in us-east-1"):
        open_store("s3://bucket", {})


@pytest.mark.parametrize(("given", "missing"), [(KEY_ID, SECRET), (SECRET, KEY_ID)])
def test_half_of_them_is_a_mistake(monkeypatch: pytest.MonkeyPatch, given: str, missing: str) -> None:
    monkeypatch.setenv(given, "half")
    with pytest.raises(UsageError, match=f"{missing} is not set") as refused:
        open_store("s3://bucket", {})
    assert "half" not in str(refused.value).replace("half of", "")


def test_workers_get_none_of_them_and_no_text_shows_the_secret() -> None:
    assert worker_environment({KEY_ID: "key", SECRET: "secret", "HOME": "/root"}) == {"HOME": "/root"}
    assert "own-secret" not in repr(OWN)
    assert Keys.from_json(OWN.as_json()) == OWN
