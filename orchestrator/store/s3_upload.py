"""Large files to S3, in parts that are each checked by SHA-256, and going on where an earlier try was interrupted.

Only the process that has begun an upload goes on with it: to ask with every upload whether another has begun it would
be one more request that is billed as a write, for what hardly ever is. What is left of others, `abort_uploads` ends.
Which parts are there is known to the bucket. One that is listed there is taken for done when it has the SHA-256 of
ours, or the MD5 where the server lists nothing better (the ETag of a part, but for encryption by KMS, and then AWS
lists the SHA-256). Uploads are never conditional: several servers get the conditions of CompleteMultipartUpload wrong,
so large files go to keys that are used for nothing else.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from orchestrator.store.disk import explained, shown, unaltered
from orchestrator.store.parts import in_order, part_size
from orchestrator.store.protocol import Altered, Missing, NotAllowed, Progress, ReplyLost, StoreError, Unsupported
from orchestrator.store.s3_requests import Requests

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import (
        CompletedPartTypeDef,
        HeadObjectOutputTypeDef,
        ListMultipartUploadsOutputTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListPartsRequestTypeDef,
        MultipartUploadTypeDef,
        PartTypeDef,
    )


def upload(
    requests: Requests,
    begun: MutableMapping[str, str],
    key: str,
    name: str,
    path: Path,
    progress: Progress | None,
    known: str | None = None,
) -> str:
    """Write a file under `name`, the whole key in the bucket; return its SHA-256. `key` is what errors call it.

    `begun` has the ids of the uploads that were begun and not finished, by name: it is kept from one call to the next.
    """
    with explained(f"read {shown(path)}"), open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        part_bytes = part_size(size_bytes)
        if size_bytes > part_bytes:
            return _Upload(requests, begun, key, name, progress or _silent).send(file, part_bytes, known)
        body = file.read(size_bytes)
    digest = sha256(body)
    unaltered(path, digest.hexdigest(), known)
    requests.send(
        key,
        lambda: requests.client.put_object(
            Bucket=requests.bucket, Key=name, Body=body, ChecksumSHA256=b64encode(digest.digest()).decode()
        ),
        writes=True,
    )
    if progress is not None:
        progress(len(body))
    return digest.hexdigest()


def abort_uploads(requests: Requests, prefix: str, older_than_s: float) -> int:
    """End the uploads under `prefix` that were begun so long ago, by the server's own clock; return how many."""
    ended = 0
    for page in _unfinished(requests, prefix):
        date = page["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            continue  # nobody can tell how old they are
        now = parsedate_to_datetime(date)  # in whole seconds, unlike the beginnings
        for begun in page.get("Uploads", []):
            if (now - begun["Initiated"].replace(microsecond=0)).total_seconds() < older_than_s:
                continue
            with suppress(Missing):  # whoever sent it has finished it meanwhile, or another has ended it
                requests.send(begun["Key"], partial(_abort, requests, begun))
                ended += 1
    return ended


def _abort(requests: Requests, begun: "MultipartUploadTypeDef") -> None:
    requests.client.abort_multipart_upload(Bucket=requests.bucket, Key=begun["Key"], UploadId=begun["UploadId"])


def _unfinished(requests: Requests, prefix: str) -> Iterator["ListMultipartUploadsOutputTypeDef"]:
    """The listing of unfinished uploads, page by page."""
    request: ListMultipartUploadsRequestTypeDef = {"Bucket": requests.bucket, "Prefix": prefix}
    while True:
        page = requests.send(prefix, lambda: requests.client.list_multipart_uploads(**request))
        yield page
        if not page.get("IsTruncated"):
            return
        request["KeyMarker"], request["UploadIdMarker"] = page["NextKeyMarker"], page["NextUploadIdMarker"]


def _silent(_: int) -> None:
    pass


class _Upload:
    """One file on its way, in parts."""

    def __init__(
        self, requests: Requests, begun: MutableMapping[str, str], key: str, name: str, progress: Progress
    ) -> None:
        self._requests = requests
        self._begun = begun
        self._client = requests.client
        self._bucket = requests.bucket
        self._key = key
        self._name = name
        self._progress = progress
        self._id = ""
        self._there: Mapping[int, PartTypeDef] = {}

    def send(self, file: BinaryIO, part_bytes: int, known: str | None) -> str:
        """Send what is not there yet, put it together, and return the SHA-256 of the whole."""
        self._id, self._there = self._earlier() or (self._begin(), {})
        whole = sha256()

        def jobs() -> Iterator["Callable[[], CompletedPartTypeDef]"]:
            number = 0
            while body := file.read(part_bytes):
                number += 1
                whole.update(body)
                yield partial(self._send_part, number, body)

        try:
            parts = list(in_order(jobs()))
            digest = unaltered(Path(file.name), whole.hexdigest(), known)
            self._complete(parts)
        except Altered:
            self._give_up()
            raise
        except Missing:
            self._begun.pop(self._name, None)
            raise StoreError(
                f"The upload of {self._key} was ended by somebody else before it was whole: try it again."
            ) from None
        self._begun.pop(self._name, None)
        return digest

    def _give_up(self) -> None:
        self._begun.pop(self._name, None)
        with suppress(StoreError, Missing):  # what cannot be ended now is ended with all that nobody finishes
            self._requests.send(
                self._key,
                lambda: self._client.abort_multipart_upload(Bucket=self._bucket, Key=self._name, UploadId=self._id),
            )

    def _begin(self) -> str:
        answer = self._requests.send(
            self._key,
            lambda: self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._name, ChecksumAlgorithm="SHA256"
            ),
        )
        self._begun[self._name] = answer["UploadId"]
        return answer["UploadId"]

    def _earlier(self) -> "tuple[str, Mapping[int, PartTypeDef]] | None":
        """The unfinished upload of this key and its parts; None when there is none, or nobody may list them."""
        upload_id = self._begun.get(self._name)
        if upload_id is None:
            return None
        try:
            return upload_id, {part["PartNumber"]: part for part in self._parts_of(upload_id)}
        except (NotAllowed, Unsupported, Missing):
            return None

    def _parts_of(self, upload_id: str) -> Iterator["PartTypeDef"]:
        request: ListPartsRequestTypeDef = {"Bucket": self._bucket, "Key": self._name, "UploadId": upload_id}
        while True:
            page = self._requests.send(self._key, lambda: self._client.list_parts(**request))
            yield from page.get("Parts", [])
            if not page.get("IsTruncated"):
                return
            request["PartNumberMarker"] = page["NextPartNumberMarker"]

    def _send_part(self, number: int, body: bytes) -> "CompletedPartTypeDef":
        digest = b64encode(sha256(body).digest()).decode()
        there = self._there.get(number)
        if there is not None and _is_same(there, body, digest):
            etag = there["ETag"]
        else:
            answer = self._requests.send(
                self._key,
                lambda: self._client.upload_part(
                    Bucket=self._bucket,
                    Key=self._name,
                    UploadId=self._id,
                    PartNumber=number,
                    Body=body,
                    ChecksumSHA256=digest,
                ),
            )
            etag = answer["ETag"]
        self._progress(len(body))
        return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": digest}

    def _complete(self, parts: "list[CompletedPartTypeDef]") -> None:
        try:
            self._requests.send(
                self._key,
                lambda: self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=self._name, UploadId=self._id, MultipartUpload={"Parts": parts}
                ),
                writes=True,
            )
        except ReplyLost:
            # A second request finds no upload any more when the first was carried out.
            try:
                head = self._requests.send(
                    self._key,
                    lambda: self._client.head_object(Bucket=self._bucket, Key=self._name, ChecksumMode="ENABLED"),
                )
            except Missing:
                head = None
            if head is None or not _is_whole(head, parts):
                raise


def _is_same(there: "PartTypeDef", body: bytes, digest: str) -> bool:
    if "ChecksumSHA256" in there:
        return there["ChecksumSHA256"] == digest
    return there["ETag"].strip('"') == md5(body, usedforsecurity=False).hexdigest()


def _is_whole(head: "HeadObjectOutputTypeDef", parts: "list[CompletedPartTypeDef]") -> bool:
    """Whether an object was put together from these parts: S3 gives it a checksum of its parts' checksums."""
    digest = b64encode(sha256(b"".join(b64decode(part["ChecksumSHA256"]) for part in parts)).digest()).decode()
    if head.get("ChecksumSHA256") == f"{digest}-{len(parts)}":
        return True
    try:
        tags = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return False
    return head["ETag"].strip('"') == f"{md5(tags, usedforsecurity=False).hexdigest()}-{len(parts)}"
