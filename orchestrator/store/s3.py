"""A store in a bucket: AWS S3, or a server that speaks its protocol and keeps its conditions (see `probe`).

Small objects are written by PutObject, conditional where it matters (`s3_requests` says how they are repeated); large
files go in parts (`s3_upload`, `s3_download`) to keys that are never used again.

Settings are botocore's own: credentials, profile, `AWS_REGION`, `AWS_ENDPOINT_URL_S3`; the store's own keys, where it
has any (`s3_keys`); and three of elastic's, which every request then carries that can: `ELASTIC_BUCKET_OWNER`, the
account that the bucket must belong to; `ELASTIC_S3_SSE`, how the service is to encrypt what is written (`AES256` or
`aws:kms`; without, as the bucket is set up), and `ELASTIC_S3_KMS_KEY_ID`, with which key.

General purpose buckets only: directory buckets (S3 Express) list in no order.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3.session
from botocore.config import Config

from orchestrator.store import s3_download, s3_upload
from orchestrator.store.keys import check_directory, check_key, split_prefix
from orchestrator.store.protocol import UNCHANGED, Conflict, Entry, Missing, Object, Progress, Unchanged
from orchestrator.store.s3_endpoint import check_endpoint, is_amazons, is_billed, settings_explained
from orchestrator.store.s3_keys import Keys, store_keys
from orchestrator.store.s3_requests import TRIES, NotModified, Requests

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ListObjectsV2RequestTypeDef

_CONNECTIONS = 32  # a controller looks after 16 jobs at a time, and a transfer takes threads of its own

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long to wait for a connection and for the next bytes of an answer, and how often to ask."""

    connect_timeout_s: float
    read_timeout_s: float
    tries: int


PATIENT = Patience(connect_timeout_s=5.0, read_timeout_s=15.0, tries=TRIES)
HASTY = Patience(connect_timeout_s=3.0, read_timeout_s=3.0, tries=1)


class S3Store:
    """A prefix in a bucket. The etag is S3's own, quotes and all."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        prefix: str = "",
        *,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`client` must send each request a single time, as one by `make_client` does; the rest: see `Requests`."""
        self._client = client
        self._requests = Requests(client, bucket, tries=tries, sleep=sleep, jitter=jitter)
        self._begun: dict[str, str] = {}  # unfinished uploads, by the whole key: their ids
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    @property
    def billed(self) -> bool:
        return is_billed(self._client.meta.endpoint_url)

    def get(self, key: str) -> Object | None:
        return self._get(key, lambda name: self._client.get_object(Bucket=self._bucket, Key=name))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        if etag is None:
            return self.get(key)
        try:
            return self._get(key, lambda name: self._client.get_object(Bucket=self._bucket, Key=name, IfNoneMatch=etag))
        except NotModified:
            return UNCHANGED

    def create(self, key: str, body: bytes) -> str:
        return self._put(
            key,
            lambda name: self._client.put_object(Bucket=self._bucket, Key=name, Body=body, IfNoneMatch="*"),
        )

    def replace(self, key: str, body: bytes, etag: str) -> str:
        return self._put(
            key, lambda name: self._client.put_object(Bucket=self._bucket, Key=name, Body=body, IfMatch=etag)
        )

    def put(self, key: str, body: bytes) -> str:
        return self._put(key, lambda name: self._client.put_object(Bucket=self._bucket, Key=name, Body=body))

    def delete(self, key: str, etag: str | None = None) -> None:
        name = self._name(key)
        if etag is None:
            with suppress(Missing):  # some servers say so; S3 does not
                self._requests.send(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=name), writes=True)
        else:
            self._change(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=name, IfMatch=etag))

    def list(self, prefix: str, start_after: str = "") -> Iterator[Entry]:
        split_prefix(prefix)
        request: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._root + prefix}
        if start_after:
            request["StartAfter"] = self._root + start_after
        for page in self._pages(request):
            for found in page.get("Contents", []):
                yield Entry(found["Key"].removeprefix(self._root), found["Size"], found["ETag"])

    def prefixes(self, prefix: str) -> Iterator[str]:
        full = self._root + check_directory(prefix)
        for page in self._pages({"Bucket": self._bucket, "Prefix": full, "Delimiter": "/"}):
            for found in page.get("CommonPrefixes", []):
                yield found["Prefix"].removeprefix(full).rstrip("/")

    def upload(self, path: Path, key: str, progress: Progress | None = None, *, known: str | None = None) -> str:
        return s3_upload.upload(self._requests, self._begun, key, self._name(key), path, progress, known)

    def download(self, key: str, path: Path, progress: Progress | None = None) -> str:
        return s3_download.download(self._requests, key, self._name(key), path, progress)

    def abort_uploads(self, prefix: str, older_than_s: float) -> int:
        split_prefix(prefix)
        return s3_upload.abort_uploads(self._requests, self._root + prefix, older_than_s)

    def _name(self, key: str) -> str:
        return self._root + check_key(key)

    def _get(self, key: str, request: Callable[[str], Any]) -> Object | None:
        name = self._name(key)

        def read() -> Object:
            answer = request(name)
            self._requests.expect(key, answer, "ETag")
            return Object(key, answer["Body"].read(), answer["ETag"])

        try:
            return self._requests.send(key, read)
        except Missing:
            return None

    def _put(self, key: str, request: Callable[[str], Any]) -> str:
        name = self._name(key)

        def write() -> str:
            answer = request(name)
            self._requests.expect(key, answer, "ETag")
            etag: str = answer["ETag"]
            return etag

        return self._change(key, write)

    def _change(self, key: str, request: Callable[[], T]) -> T:
        try:
            return self._requests.send(key, request, writes=True)
        except Missing as missing:
            raise Conflict(f"{key} is gone") from missing

    def _pages(self, request: "ListObjectsV2RequestTypeDef") -> Iterator["ListObjectsV2OutputTypeDef"]:
        while True:
            page = self._requests.send(request["Prefix"], lambda: self._client.list_objects_v2(**request))
            self._requests.expect(request["Prefix"], page, "Name", "IsTruncated")
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


@dataclass(frozen=True)
class Settings:
    """What is said with every request that can carry it. The module's documentation names the variables."""

    owner: str | None = None
    encryption: str | None = None
    kms_key_id: str | None = None


def connect(
    bucket: str,
    prefix: str = "",
    settings: Settings | None = None,
    session: boto3.session.Session | None = None,
    patience: Patience = PATIENT,
) -> S3Store:
    """The store in a bucket, with credentials, region and endpoint as botocore finds them. Sends nothing yet.

    Raises `UsageError` where botocore's settings cannot be used.
    """
    return S3Store(make_client(session, settings, patience), bucket, prefix, tries=patience.tries)


def make_client(
    session: boto3.session.Session | None = None, settings: Settings | None = None, patience: Patience = PATIENT
) -> "S3Client":
    """A client that sends each request a single time. Raises `UsageError` where botocore's settings cannot be used."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=patience.connect_timeout_s,
        read_timeout=patience.read_timeout_s,
        max_pool_connections=_CONNECTIONS,
    )
    with settings_explained():
        # Every SDK of AWS reads AWS_REGION but this one, and it is what an instance is told.
        session = session or boto3.session.Session(region_name=os.environ.get("AWS_REGION") or None)
        keys = store_keys(os.environ)
        client = _client(session, config, keys)
    check_endpoint(client.meta.endpoint_url)
    if not is_amazons(client.meta.endpoint_url):
        # A server of one's own: seldom has it a name for each bucket, or S3's newest checksums.
        own = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = _client(session, config.merge(own), keys)
    if settings is not None:
        _say_always(client, settings)
    return client


def _client(session: boto3.session.Session, config: Config, keys: Keys | None) -> "S3Client":
    """By the store's own keys or, without any, by the session's credentials."""
    access_key_id, secret_access_key = (keys.access_key_id, keys.secret_access_key) if keys else (None, None)
    return session.client("s3", config=config, aws_access_key_id=access_key_id, aws_secret_access_key=secret_access_key)


def _say_always(client: "S3Client", settings: Settings) -> None:
    """Add the settings to every request that has a place for them."""
    said = {
        "ExpectedBucketOwner": settings.owner,
        "ServerSideEncryption": settings.encryption,
        "SSEKMSKeyId": settings.kms_key_id,
    }

    def add(params: dict[str, Any], model: Any, **_: object) -> None:
        params.update({name: value for name, value in said.items() if value and name in model.input_shape.members})

    client.meta.events.register("before-parameter-build.s3", add)
