"""Which store a URL names, and what is said about one that names none."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.store import open_store
from orchestrator.store.local import LocalStore
from orchestrator.store.memory import MemoryStore


def test_a_directory_by_its_path_or_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "a store, with 100%"
    for url in [str(place), place.as_uri(), place.as_uri().replace("file://", "file://localhost")]:
        store = open_store(url, {})
        assert isinstance(store, LocalStore)
        assert store.url == place.as_uri()
    monkeypatch.chdir(tmp_path)
    assert open_store("a store, with 100%", {}).url == place.as_uri(), "a relative path, and absolute ever after"


def test_the_environment_names_it_unless_it_is_given(tmp_path: Path) -> None:
    environ = {"ELASTIC_STORE": str(tmp_path / "environment")}
    assert open_store(None, environ).url == (tmp_path / "environment").as_uri()
    assert open_store(str(tmp_path / "given"), environ).url == (tmp_path / "given").as_uri()


def test_by_default_it_is_the_users_own_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Path(open_store(None, {}).url.removeprefix("file://"))
    assert path.is_relative_to(tmp_path)
    assert path.parts[-2:] == ("elastic", "store")


def test_in_memory() -> None:
    assert isinstance(open_store("memory:", {}), MemoryStore)


def test_a_bucket_with_and_without_a_prefix() -> None:
    """Nothing is sent yet."""
    for url in ["s3://bucket-1.example/team/elastic", "s3://bucket"]:
        assert open_store(url, {}).url == url
    assert open_store("s3://bucket/prefix/", {}).url == "s3://bucket/prefix"


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/prefix",
        "http://example.com",
        "s3:bucket",
        "s3://",
        "s3:///prefix",
        "s3://Bucket",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket?x",
        "file:relative",
        "file://host/path",
        "file://",
        "file:///a?b",
        "memory:x",
        "c:/somewhere",
        "s3://[bucket",
    ],
)
def test_a_url_that_names_no_store_is_a_mistake_of_use(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url, {})
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/prefix",
        "s3:key:hunter2@bucket",
        "s3://key:hun/ter2@bucket",
        "http://user:hunter2@example.com/",
        "minio:hunter2@host",
        "file://user:hunter2@host/path",
        "s3://[key:hunter2@bucket",
    ],
)
def test_a_password_in_a_url_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="has a user or a password in it") as caught:
        open_store(url, {})
    assert "ter2" not in str(caught.value)


def test_a_directory_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    for url in (str(tmp_path / "a@b"), (tmp_path / "c").as_uri() + "@d"):
        assert isinstance(open_store(url, {}), LocalStore)


def test_a_directory_that_cannot_be_used_is_a_mistake_of_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file") as caught:
        open_store(str(tmp_path / "file"), {})
    assert caught.value.exit_code == 2


def test_a_local_store_brings_neither_boto3_nor_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from orchestrator.store import open_store, document, lease, probe; open_store(sys.argv[1], {});"
        "print(*(name for name in ('boto3', 'botocore', 'torch', 'moto') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
