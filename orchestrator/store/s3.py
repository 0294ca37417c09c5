"""A store in a bucket: AWS S3, or a server that speaks its protocol and keeps its conditions (see `probe`).

Small objects are written by PutObject, conditional where it matters, sent once by botocore and repeated here, because
only here it is known what a second answer means after a first that was lost. Large files go by boto3's transfers to
keys that are never used again, so that botocore's own repeats do no harm.

General purpose buckets only: directory buckets (S3 Express) list in no order.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import boto3.session
from boto3.exceptions import Boto3Error, RetriesExceededError, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from orchestrator.store.disk import arriving, explained
from orchestrator.store.keys import check_directory, check_key, split_prefix
from orchestrator.store.protocol import (
    UNCHANGED,
    Conflict,
    Entry,
    Missing,
    Object,
    Progress,
    ReplyLost,
    StoreError,
    Unchanged,
)
from orchestrator.store.s3_answers import FAILURES, Answer, Failure, classify, explain

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ListObjectsV2RequestTypeDef

TRIES = 6
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 15.0
TRANSFER_TRIES = 5

# boto3's other transfer client (CRT) ignores a custom endpoint
_TRANSFER = TransferConfig(preferred_transfer_client="classic")

T = TypeVar("T")


class _NotModified(Exception):
    """The answer 304."""


class S3Store:
    """A prefix in a bucket. The etag is S3's own, quotes and all."""

    def __init__(
        self,
        once: "S3Client",
        transfers: "S3Client",
        bucket: str,
        prefix: str = "",
        *,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`once` must send each request a single time; `transfers` repeats by itself. `connect` makes both.

        `jitter` draws from [0, 1): which share of a pause is waited, so that clients do not come back all at once.
        """
        self._client = once
        self._transfers = transfers
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._sleep = sleep
        self._jitter = jitter

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}/{self._root}".rstrip("/")

    @property
    def billed(self) -> bool:
        return is_amazons(self._client)

    def get(self, key: str) -> Object | None:
        return self._get(key, lambda name: self._client.get_object(Bucket=self._bucket, Key=name))

    def get_if_changed(self, key: str, etag: str | None) -> Object | None | Literal[Unchanged.UNCHANGED]:
        if etag is None:
            return self.get(key)
        try:
            return self._get(key, lambda name: self._client.get_object(Bucket=self._bucket, Key=name, IfNoneMatch=etag))
        except _NotModified:
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
                self._send(key, lambda: self._client.delete_object(Bucket=self._bucket, Key=name), writes=True)
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

    def upload(self, path: Path, key: str, progress: Progress | None = None) -> None:
        name = self._name(key)
        with explained(f"read {path}"):
            self._transfer(
                key,
                lambda: self._transfers.upload_file(str(path), self._bucket, name, Callback=progress, Config=_TRANSFER),
            )

    def download(self, key: str, path: Path, progress: Progress | None = None) -> None:
        name = self._name(key)
        with arriving(path) as temporary:
            self._transfer(
                key,
                lambda: self._transfers.download_file(
                    self._bucket, name, str(temporary), Callback=progress, Config=_TRANSFER
                ),
            )

    def _name(self, key: str) -> str:
        return self._root + check_key(key)

    def _get(self, key: str, request: Callable[[str], Any]) -> Object | None:
        name = self._name(key)

        def read() -> Object:
            answer = request(name)
            return Object(key, answer["Body"].read(), answer["ETag"])

        try:
            return self._send(key, read)
        except Missing:
            return None

    def _put(self, key: str, request: Callable[[str], Any]) -> str:
        name = self._name(key)
        etag: str = self._change(key, lambda: request(name)["ETag"])
        return etag

    def _change(self, key: str, request: Callable[[], T]) -> T:
        try:
            return self._send(key, request, writes=True)
        except Missing as missing:
            raise Conflict(f"{key} is gone") from missing

    def _pages(self, request: "ListObjectsV2RequestTypeDef") -> Iterator["ListObjectsV2OutputTypeDef"]:
        while True:
            page = self._send(request["Prefix"], lambda: self._client.list_objects_v2(**request))
            yield page
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _send(self, key: str, request: Callable[[], T], *, writes: bool = False) -> T:
        """Send until the answer is certain, at most `TRIES` times with growing, random pauses.

        A conflict or absence that follows a lost reply may be one's own doing, hence `ReplyLost` and not `Conflict`.
        """
        doubtful = False
        failure: Failure
        for attempt in range(TRIES):
            if attempt:
                self._sleep(self._jitter() * min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
            try:
                return request()
            except FAILURES as error:
                failure = error
            match classify(failure):
                case Answer.LATER | Answer.BUSY:
                    continue
                case Answer.UNKNOWN:
                    doubtful = writes
                case Answer.UNCHANGED:
                    raise _NotModified from failure
                case Answer.LOST if not doubtful:
                    raise Conflict(f"{key} is not what it was") from failure
                case Answer.ABSENT if not doubtful:
                    raise Missing(key) from failure
                case _:
                    break
        why = self._explain(failure, key)
        if doubtful:
            raise ReplyLost(f"Whether {key} was written is not known, a reply was lost. {why}") from failure
        if classify(failure) is Answer.BUSY:
            raise Conflict(f"{key} is being written by others") from failure
        raise why from failure

    def _transfer(self, key: str, run: Callable[[], None]) -> None:
        """Run one of boto3's transfers; find the real failure in what it raises."""
        try:
            run()
        except (*FAILURES, Boto3Error) as error:
            failure: BaseException | None = error
            if isinstance(error, S3UploadFailedError):
                failure = error.__context__
            elif isinstance(error, RetriesExceededError):
                failure = getattr(error, "last_exception", None)  # the type stubs do not know it
            if not isinstance(failure, FAILURES):
                raise StoreError(f"The transfer of {key} with {self.url} failed: {error}.") from error
            if classify(failure) is Answer.ABSENT:
                self._check_bucket()
                raise Missing(key) from error
            raise self._explain(failure, key) from error

    def _check_bucket(self) -> None:
        """HeadObject answers a bare 404 for a missing object and for a missing bucket; a listing tells which."""
        self._send("", lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._root, MaxKeys=1))

    def _explain(self, failure: Failure, key: str) -> StoreError:
        return explain(failure, key, self._bucket, self._client.meta.endpoint_url)


def connect(
    bucket: str, prefix: str = "", *, expected_owner: str | None = None, session: boto3.session.Session | None = None
) -> S3Store:
    """The store in a bucket, with credentials, region and endpoint as botocore finds them. Sends nothing yet.

    With `expected_owner`, an AWS account id, every request says that the bucket must be that account's.
    """
    session = session or boto3.session.Session()
    once, transfers = (make_client(session, tries, expected_owner) for tries in (1, TRANSFER_TRIES))
    return S3Store(once, transfers, bucket, prefix)


def make_client(session: boto3.session.Session, tries: int, expected_owner: str | None) -> "S3Client":
    """A client that sends each request up to so many times."""
    config = Config(
        retries={"mode": "standard", "total_max_attempts": tries},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
    )
    client = session.client("s3", config=config)
    if not is_amazons(client):
        # A server of one's own: seldom has it a name for each bucket, or S3's newest checksums.
        own = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = session.client("s3", config=config.merge(own))
    if expected_owner:
        _say_owner(client, expected_owner)
    return client


def is_amazons(client: "S3Client") -> bool:
    """Whether this is AWS itself, and not a server of one's own that speaks its protocol."""
    return ".amazonaws." in client.meta.endpoint_url


def _say_owner(client: "S3Client", owner: str) -> None:
    """Add ExpectedBucketOwner to every request that can carry it, those inside a transfer included."""

    def add(params: dict[str, Any], model: Any, **_: object) -> None:
        if "ExpectedBucketOwner" in model.input_shape.members:
            params["ExpectedBucketOwner"] = owner

    client.meta.events.register("before-parameter-build.s3", add)
