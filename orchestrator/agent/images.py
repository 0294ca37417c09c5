"""The user's own images, brought from a bucket to a directory of this machine, once for all jobs and generations.

A prefix has a directory in the cache, named by its address:

    <key>/lock              held by the one agent that brings it
    <key>/<listing>/        the images of one listing of the prefix: keys, sizes and etags
    <key>/<listing>.begun   that listing, while they are being brought
    <key>/<listing>.json    that listing, once all of them are there
    <key>/jobs/<job>        the listing that a job began with, so that all its generations see the same

Each file appears whole, and a listing's directory never changes once it is complete: what is interrupted is gone on
with, and when the prefix has changed, a new directory shares the files that have not, also of one that was interrupted.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Protocol

from orchestrator.agent.equipment import Asker
from orchestrator.errors import ElasticError, UsageError
from orchestrator.spec.places import FOLDERS, is_url, split_s3
from orchestrator.store.disk import arriving
from orchestrator.store.protocol import BucketMissing, Entry, NotAllowed, StoreError

TRANSFERS = 10
"""At once: as many as boto3 keeps connections."""
ASK_FOR_LOCK_EVERY_S = 1.0
SPARE_BYTES = 256 * 1024**2
"""Left free on the disk beside the images."""
LOOK_EVERY_S = 0.5
_BLOCK_BYTES = 4096
_LONGEST_NAME_BYTES = 255


class BadFolder(ElasticError):
    """The images cannot be had as the job names them; trying again would not help."""


class Interrupted(Exception):
    """Whoever asked for the images has to end."""


class Source(Protocol):
    """Where images are brought from (`orchestrator.store.source.S3Source`)."""

    @property
    def url(self) -> str: ...

    def list(self) -> Iterator[Entry]: ...

    def fetch(self, entry: Entry, path: Path) -> None: ...


def open_s3(url: str) -> Source:
    """The objects under s3://BUCKET/PREFIX, with this process's credentials. Raises BadFolder: settings are no use."""
    from orchestrator.store.source import S3Source  # brings boto3, which local folders do without

    try:
        return S3Source(*split_s3(url))
    except UsageError as error:
        raise BadFolder(str(error)) from error


@dataclass(frozen=True)
class Bringing:
    """What it takes to bring images: where to, for whom, where from."""

    cache: Path
    asker: Asker
    open_source: Callable[[str], Source] = open_s3

    def localized(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """The trainer's config with every s3:// folder as a local directory.

        Raises BadFolder, StoreError for what may pass (credentials that are not there yet, a full disk), Interrupted.
        """
        folders = dict(training.get("folders") or {})
        remote = [name for name in FOLDERS if is_url(folders.get(name) or "")]
        if not remote:
            return dict(training)
        for name in remote:
            try:
                folders[name] = str(self._bring(folders[name]))
            except BadFolder as error:
                raise BadFolder(f"training.folders.{name}: {error}") from error
            except (NotAllowed, BucketMissing) as error:
                raise BadFolder(f"training.folders.{name}: {folders[name]}: {error}") from error
        self.asker.doing("")
        return {**training, "folders": folders}

    def _bring(self, url: str) -> Path:
        """The local directory with the images under a URL."""
        source = self.open_source(url)
        home = self.cache / hashlib.sha256(source.url.encode()).hexdigest()[:24]
        (home / "jobs").mkdir(parents=True, exist_ok=True)
        with self._locked(home / "lock", source.url):
            begun = home / "jobs" / hashlib.sha256(self.asker.job.encode()).hexdigest()[:24]
            if begun.exists() and _is_complete(known := home / begun.read_text()):
                return known
            listing = _Listing.of(source, self.asker.doing)
            place = home / listing.name
            if not _is_complete(place):
                self._fill(source, listing, place)
            with arriving(begun) as temporary:
                temporary.write_text(listing.name)
            return place

    def _fill(self, source: Source, listing: "_Listing", place: Path) -> None:
        place.mkdir(exist_ok=True)
        with arriving(_begun(place)) as temporary:  # first: what comes is of use also when the prefix changes meanwhile
            temporary.write_text(json.dumps([[entry.key, entry.size, entry.etag] for entry in listing.entries]))
        _remove_parts(place)
        missing = _missing(listing, place)
        _check_space(place, missing)
        size_bytes = sum(entry.size for entry in missing)
        self.asker.tell(f"bringing {len(missing):,} files ({size_bytes / 1e6:,.1f} MB) from {source.url}")
        done = len(listing.entries) - len(missing)
        for some in self._fetch(source, missing, place):
            done += some
            if some:
                self.asker.came()
            self.asker.doing(f"bringing {done:,} of {len(listing.entries):,} files from {source.url}")
        os.sync()  # a listing that outlives a power failure must not name files that have not
        os.replace(_begun(place), _manifest(place))

    def _fetch(self, source: Source, entries: Sequence[Entry], place: Path) -> Iterator[int]:
        """Fetch all, several at once; yields how many have come. The first failure ends it, and so does `ending`."""
        queue, running = iter(entries), set[Future[None]]()
        pool = ThreadPoolExecutor(TRANSFERS, thread_name_prefix="bring")
        try:
            while True:
                for entry in islice(queue, 2 * TRANSFERS - len(running)):
                    running.add(pool.submit(source.fetch, entry, place / entry.key))
                if not running:
                    return
                done, running = wait(running, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for each in done:
                    each.result()
                yield len(done)
                if self.asker.ending.is_set():
                    raise Interrupted
        finally:
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def _locked(self, path: Path, url: str) -> Iterator[None]:
        """Alone on this machine with a prefix; the kernel frees it when this process dies."""
        with open(path, "w") as lock:
            for tries in count():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    self.asker.doing(
                        f"waiting for another job that is bringing {url}: {tries * ASK_FOR_LOCK_EVERY_S:.0f} s"
                    )
                    if self.asker.ending.wait(ASK_FOR_LOCK_EVERY_S):
                        raise Interrupted from None
            yield


@dataclass(frozen=True)
class _Listing:
    """What lay under a prefix at one moment."""

    name: str
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, source: Source, doing: Callable[[str], None]) -> "_Listing":
        entries = []
        for number, entry in enumerate(source.list()):
            if number % 1000 == 0:
                doing(f"listing {source.url}: {number:,} files so far")
            entries.append(entry)
        if not entries:
            raise BadFolder(f"there is nothing under {source.url}: is the prefix right?")
        _check_names([entry.key for entry in entries], source.url)
        digest = hashlib.sha256()
        for entry in entries:
            digest.update(f"{entry.key}\0{entry.size}\0{entry.etag}\n".encode())
        return cls(digest.hexdigest()[:24], tuple(entries))


def _check_names(keys: Sequence[str], url: str) -> None:
    """Raises BadFolder for keys that cannot all be files within a directory."""
    directories = {key[:i] for key in keys for i, character in enumerate(key) if character == "/"}
    for key in keys:
        parts = key.split("/")
        if any(part in ("", ".", "..") or len(part.encode()) > _LONGEST_NAME_BYTES or "\0" in part for part in parts):
            raise BadFolder(f"the object {key[:200]!r} under {url} cannot be a file here: give it another name")
        if key in directories:
            raise BadFolder(f"{key!r} under {url} is an object and a directory of others: give it another name")


def _remove_parts(place: Path) -> None:
    """Free the disk of what an agent that was killed was about to write: the lock is held, so nobody else is."""
    for path in place.rglob(".*.part"):
        if re.fullmatch(r"\.[0-9a-f]{12}\.part", path.name):
            path.unlink(missing_ok=True)


def _missing(listing: _Listing, place: Path) -> list[Entry]:
    """What is still to be fetched: neither there from an interrupted try, nor unchanged since an older listing."""
    known: dict[Entry, list[Path]] = {}
    for manifest in [*place.parent.glob("*.json"), *place.parent.glob("*.begun")]:
        if (directory := manifest.with_suffix("")) != place:
            for entry in _listed(manifest):
                known.setdefault(entry, []).append(directory / entry.key)
    missing = []
    for entry in listing.entries:
        path = place / entry.key
        if _is_whole(path, entry):
            continue
        older = next((older for older in known.get(entry, ()) if _is_whole(older, entry)), None)
        if older is None:
            missing.append(entry)
        else:
            _share(older, path)
    return missing


def _is_whole(path: Path, entry: Entry) -> bool:
    """Whether a file is there in full: one of which a power failure has taken the end is not."""
    try:
        return path.is_file() and path.stat().st_size == entry.size
    except OSError:
        return False


def _share(older: Path, path: Path) -> None:
    """Have a file under another name too: by a link, or a copy where the file system has none (or no more of them)."""
    with arriving(path) as temporary:
        try:
            os.link(older, temporary)
        except OSError:
            shutil.copyfile(older, temporary)


def _listed(manifest: Path) -> tuple[Entry, ...]:
    """What a listing's file says; nothing where it is not there or was cut short."""
    try:
        return tuple(Entry(str(key), int(size), str(etag)) for key, size, etag in json.loads(manifest.read_text()))
    except (OSError, ValueError, TypeError):
        return ()


def _check_space(place: Path, missing: Sequence[Entry]) -> None:
    """Raises StoreError when they would not fit now: space can be made."""
    needed = sum(-(-entry.size // _BLOCK_BYTES) * _BLOCK_BYTES for entry in missing) + SPARE_BYTES
    free = shutil.disk_usage(place).free
    if missing and needed > free:
        raise StoreError(
            f"{len(missing):,} files need {needed / 1e9:,.1f} GB on the disk of {place.parent.parent}, "
            f"which has {free / 1e9:,.1f} GB free"
        )


def _manifest(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _begun(place: Path) -> Path:
    return place.with_name(f"{place.name}.begun")


def _is_complete(place: Path) -> bool:
    return bool(_listed(_manifest(place)))
