"""Large files from S3, by ranges of one version, going on where an earlier try was interrupted."""

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from orchestrator.store.disk import arriving
from orchestrator.store.partial import continued
from orchestrator.store.parts import in_order
from orchestrator.store.protocol import Conflict, Progress, StoreError
from orchestrator.store.s3_requests import Requests

if TYPE_CHECKING:
    from hashlib import _Hash

PART_BYTES = 8 * 1024**2  # reads cost a twelfth of writes, and so they are smaller than in uploads
_VERSIONS = 3  # a key that changes more often while it is read is not one to be read so
_CHUNK_BYTES = 256 * 1024
"""So much is read at a time. A part as one piece would be new memory from the system each time, which costs as much as
the network of a machine next door."""


def download(requests: Requests, key: str, name: str, path: Path, progress: Progress | None) -> str:
    """Write the object under `name`, the whole key in the bucket, to a file; return its SHA-256.

    Never mixes two versions: one that is replaced meanwhile is fetched again from its beginning. Raises `Missing` and
    `StoreError`.
    """
    for _ in range(_VERSIONS):
        head = requests.head(key, name)
        requests.expect(key, head, "ETag", "ContentLength")
        version = Version(requests, key, name, head["ETag"], head["ContentLength"], progress)
        try:
            return version.fetch(path)
        except Conflict:
            version.take_back()
    raise StoreError(f"{key} in s3://{requests.bucket} was replaced {_VERSIONS} times while it was fetched: try again.")


class Version:
    """One version of an object, by its etag."""

    def __init__(
        self, requests: Requests, key: str, name: str, etag: str, size_bytes: int, progress: Progress | None = None
    ) -> None:
        self._requests = requests
        self._key = key
        self._name = name
        self._etag = etag
        self._size_bytes = size_bytes
        self._progress = progress
        self._told_bytes = 0

    def fetch(self, path: Path) -> str:
        """Write it to a file, which appears whole; return its SHA-256. Raises `Conflict` when there is another now."""
        whole = sha256()
        if self._size_bytes <= PART_BYTES:
            chunks = self._range(0)
            with arriving(path) as temporary, open(temporary, "wb") as file:
                self._add(file, whole, chunks)
        else:
            with continued(path, f"s3://{self._requests.bucket}/{self._name} {self._etag}") as file:
                self._go_on(file, whole)
        return whole.hexdigest()

    def _go_on(self, file: BinaryIO, whole: "_Hash") -> None:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
            self._tell(len(chunk))
        for chunks in in_order(self._ranges(file.tell())):
            self._add(file, whole, chunks)

    def _add(self, file: BinaryIO, whole: "_Hash", chunks: list[bytes]) -> None:
        """What comes next, to the file and to the sum of all."""
        for chunk in chunks:
            file.write(chunk)
            whole.update(chunk)
        self._tell(sum(map(len, chunks)))

    def _ranges(self, start: int) -> Iterator[Callable[[], list[bytes]]]:
        return (partial(self._range, first) for first in range(start, self._size_bytes, PART_BYTES))

    def _range(self, first: int) -> list[bytes]:
        """The bytes from `first` on, a part of them, in chunks."""
        wanted_bytes = min(PART_BYTES, self._size_bytes - first)
        if wanted_bytes == 0:
            return []  # an empty object has no range
        chunks, etag = self._requests.send(self._key, lambda: self._get(f"bytes={first}-{first + wanted_bytes - 1}"))
        if etag != self._etag:
            raise Conflict(f"{self._key} is not what it was")
        come_bytes = sum(map(len, chunks))
        if come_bytes != wanted_bytes:
            raise StoreError(
                f"{self._key} in s3://{self._requests.bucket}: {come_bytes} bytes came where {wanted_bytes} were asked "
                "for. The server does not keep to ranges: use another."
            )
        return chunks

    def _get(self, extent: str) -> tuple[list[bytes], str]:
        answer = self._requests.client.get_object(
            Bucket=self._requests.bucket, Key=self._name, Range=extent, IfMatch=self._etag
        )
        self._requests.expect(self._key, answer, "ETag")
        return list(answer["Body"].iter_chunks(_CHUNK_BYTES)), answer["ETag"]

    def take_back(self) -> None:
        """What was told of it is void."""
        self._tell(-self._told_bytes)

    def _tell(self, some_bytes: int) -> None:
        self._told_bytes += some_bytes
        if self._progress is not None:
            self._progress(some_bytes)
