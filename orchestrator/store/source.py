"""What others keep in a bucket, to be read: keys are theirs, of any characters, and nothing is ever written."""

from collections.abc import Iterator
from pathlib import Path

from orchestrator.store.protocol import Conflict, Entry, Missing, StoreError
from orchestrator.store.s3 import S3Store, make_client
from orchestrator.store.s3_download import Version


class SourceChanged(StoreError):
    """An object is not what the listing said: somebody has changed it since."""


class S3Source:
    """The objects under a prefix. Safe to use from several threads."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Sends nothing yet. Raises `UsageError` where botocore's settings cannot be used."""
        self._objects = _AnyKey(make_client(), bucket, prefix)

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
        try:
            self._objects.fetch(entry, path)
        except (Missing, Conflict):
            raise self._changed(entry) from None

    def _changed(self, entry: Entry) -> SourceChanged:
        return SourceChanged(f"{self.url}/{entry.key} was changed or removed while it was being fetched")


class _AnyKey(S3Store):
    """A store's requests for keys that are not of its own making."""

    def fetch(self, entry: Entry, path: Path) -> None:
        """Download the very version of an object that was listed."""
        Version(self._requests, entry.key, self._name(entry.key), entry.etag, entry.size).fetch(path)

    def _name(self, key: str) -> str:
        return self._root + key
