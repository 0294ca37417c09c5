"""What others keep in a bucket, to be read: keys are theirs, of any characters, and nothing is ever written."""

from collections.abc import Iterator
from pathlib import Path

import boto3.session

from orchestrator.store.disk import arriving
from orchestrator.store.protocol import Entry, Missing, StoreError
from orchestrator.store.s3 import TRANSFER_TRIES, S3Store, make_client

_WHOLE_BYTES = 16 * 1024**2
"""Up to here an object is read by one request; larger ones by boto3's transfers, in parts."""


class SourceChanged(StoreError):
    """An object is not what the listing said: somebody has changed it since."""


class S3Source:
    """The objects under a prefix. Safe to use from several threads."""

    def __init__(self, bucket: str, prefix: str) -> None:
        session = boto3.session.Session()
        once, transfers = (make_client(session, tries, expected_owner=None) for tries in (1, TRANSFER_TRIES))
        self._objects = _AnyKey(once, transfers, bucket, prefix)

    @property
    def url(self) -> str:
        return self._objects.url

    def list(self) -> Iterator[Entry]:
        """All objects but the empty ones that only stand for directories, keys from the prefix on, in order."""
        return (entry for entry in self._objects.list("") if entry.key and not entry.key.endswith("/"))

    def fetch(self, entry: Entry, path: Path) -> None:
        """Write an object to a file, which appears whole or not at all.

        Raises SourceChanged when it is no longer the one listed, and StoreError.
        """
        if entry.size > _WHOLE_BYTES:
            self._fetch_in_parts(entry, path)
            return
        found = self._objects.get(entry.key)
        if found is None or found.etag != entry.etag:
            raise self._changed(entry)
        with arriving(path) as temporary:
            temporary.write_bytes(found.body)

    def _fetch_in_parts(self, entry: Entry, path: Path) -> None:
        with arriving(path) as temporary:
            try:
                self._objects.download(entry.key, temporary)
            except Missing:
                raise self._changed(entry) from None
            if temporary.stat().st_size != entry.size:
                raise self._changed(entry)

    def _changed(self, entry: Entry) -> SourceChanged:
        return SourceChanged(f"{self.url}/{entry.key} was changed or removed while it was being fetched")


class _AnyKey(S3Store):
    """A store's requests for keys that are not of its own making."""

    def _name(self, key: str) -> str:
        return self._root + key
