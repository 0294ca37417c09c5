"""What only a directory can do wrong: die half-way, fill up, be shared by name, vanish."""

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from time import time
from typing import Any

import pytest

from orchestrator.store import UNCHANGED, Altered, Conflict, StoreError, StoreUnreachable, local
from orchestrator.store.local import LocalStore

KILLS = 12
BODY_BYTES = 300_000

# Writes the same keys over and over by every kind of write; each body is one letter, many times.
WRITER = f"""
import itertools, pathlib, sys
from orchestrator.store.local import LocalStore
store = LocalStore(pathlib.Path(sys.argv[1]))
source = pathlib.Path(sys.argv[2])
print("ready", flush=True)
for letter in itertools.cycle(b"abcdefgh"):
    body = bytes([letter]) * {BODY_BYTES}
    store.put("put", body)
    store.delete("create")
    store.create("create", body)
    store.replace("replace", body, store.get("replace").etag)
    fresh = source.with_name("fresh")
    fresh.write_bytes(body)
    store.upload(fresh, "upload")
    fresh.unlink()
"""


def test_a_killed_writer_leaves_no_torn_object(local_root: Path, tmp_path: Path) -> None:
    store = LocalStore(local_root)
    store.create("replace", b"a" * BODY_BYTES)
    moments = random.Random(0)
    for _ in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(local_root), str(tmp_path / "source")], stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(moments.uniform(0.01, 0.15))
        finally:
            writer.kill()
            writer.communicate()
        for entry in store.list(""):
            found = store.get(entry.key)
            assert found is not None and entry.size == len(found.body) == BODY_BYTES
            assert len(set(found.body)) == 1, f"{entry.key} is torn"
        survivor = store.get("replace")
        assert survivor is not None, "what is only ever replaced is always there"
        store.replace("replace", survivor.body, survivor.etag)  # no lock was left behind
    assert {entry.key for entry in store.list("")} <= {"put", "create", "replace", "upload"}


def test_a_reader_never_sees_a_torn_object(local_root: Path) -> None:
    store = LocalStore(local_root)
    store.put("key", b"a" * BODY_BYTES)
    done = Event()
    written: list[bool] = []

    def write() -> None:
        while not done.is_set():
            store.put("key", bytes([b"abcdefgh"[len(written) % 8]]) * BODY_BYTES)
            written.append(True)

    writer = Thread(target=write)
    writer.start()
    reads = 0
    try:
        while writer.is_alive() and (reads < 50 or len(written) < 200):
            found = store.get("key")
            assert found is not None and len(found.body) == BODY_BYTES and len(set(found.body)) == 1
            reads += 1
    finally:
        done.set()
        writer.join()
    assert len(written) >= 200, "it was written meanwhile"


def test_temporary_files_of_the_dead_are_swept_after_an_hour(local_root: Path) -> None:
    LocalStore(local_root)
    left_behind = local_root / "~tmp" / "left-behind"
    left_behind.write_bytes(b"half an obj")
    LocalStore(local_root, now=lambda: time() + 3500)
    assert left_behind.exists(), "its writer may still be alive"
    LocalStore(local_root, now=lambda: time() + 3700)
    assert not left_behind.exists()


def test_whoever_ends_unfinished_uploads_leaves_those_of_living_writers(local_root: Path) -> None:
    """It is not known for which keys they are."""
    store = LocalStore(local_root, now=lambda: time() + 3500)
    (local_root / "~tmp" / "in-progress").write_bytes(b"half an obj")
    assert store.abort_uploads("jobs/another/", 0.0) == 0
    assert LocalStore(local_root, now=lambda: time() + 3500).abort_uploads("", 3000.0) == 0
    assert (local_root / "~tmp" / "in-progress").exists()


@pytest.mark.parametrize(
    ("error", "meaning"),
    [(OSError(errno.EMFILE, "Too many open files"), "too many open files"), (PermissionError(13, "denied"), "may not")],
)
def test_a_directory_that_cannot_be_listed_is_the_stores_error(
    local_root: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, meaning: str
) -> None:
    store = LocalStore(local_root)
    store.put("jobs/digits/record", b"1")
    scandir = os.scandir

    def refused(path: Path | str) -> Any:
        if Path(path).name == "digits":
            raise error
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        with pytest.raises(StoreError, match=f"Cannot list jobs/.*{meaning}"):
            list(store.list("jobs/"))
        with pytest.raises(StoreError, match=f"Cannot list jobs/.*{meaning}"):
            list(store.prefixes("jobs/"))


def test_an_object_that_cannot_be_looked_at_while_listed_is_the_stores_error(
    local_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(local_root)
    store.put("jobs/digits/record", b"1")
    stat_of = os.stat

    def refused(path: Path | int, **given: Any) -> os.stat_result:
        if isinstance(path, Path) and path.name == "record":
            raise OSError(errno.EIO, "Input/output error")
        return stat_of(path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refused)
        with pytest.raises(StoreError, match=r"Cannot list jobs/digits/record .*Input/output error"):
            list(store.list("jobs/"))


def test_a_condition_is_not_checked_against_what_the_machine_remembers_of_a_file(
    local_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file system answers a look from memory for seconds, and asks anew when a file is opened."""
    store = LocalStore(local_root, now=lambda: time() + 10)
    store.put("record", b"old")
    found = store.get("record")
    assert found is not None
    stale = os.stat(local_root / "record")
    LocalStore(local_root).put("record", b"another machine's")
    stat_of = os.stat

    def remembered(path: Path | int, **given: Any) -> os.stat_result:
        return stale if isinstance(path, Path) and path.name == "record" else stat_of(path, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", remembered)
        with pytest.raises(Conflict):
            store.replace("record", b"mine", found.etag)
        with pytest.raises(Conflict):
            store.delete("record", found.etag)
    assert store.get("record") != found


def test_an_upload_in_progress_is_not_swept_for_the_age_of_its_file(local_root: Path, tmp_path: Path) -> None:
    """The hard link of an old file is as old as that file, but its name is new."""
    LocalStore(local_root)
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    os.utime(source, (0, 0))
    os.link(source, local_root / "~tmp" / "in-progress")
    LocalStore(local_root)
    assert (local_root / "~tmp" / "in-progress").exists()


def test_nothing_of_its_own_shows_in_a_listing(local_root: Path) -> None:
    store = LocalStore(local_root)
    (local_root / "~tmp" / "left-behind").write_bytes(b"")
    (local_root / "lost+found").mkdir()
    (local_root / "lost+found" / "x").write_bytes(b"")
    store.replace("a", b"2", store.create("a", b"1"))
    assert [entry.key for entry in store.list("")] == ["a"]
    assert list(store.prefixes("")) == []
    assert list((local_root / "~locks").iterdir()) != [], "there was a lock"


def test_an_upload_shares_the_file_and_makes_it_read_only(local_root: Path, tmp_path: Path) -> None:
    store = LocalStore(local_root)
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    store.upload(source, "model.pt")
    assert source.samefile(local_root / "model.pt")
    assert stat.S_IMODE(source.stat().st_mode) == 0o444


def test_an_upload_from_another_file_system_is_a_copy(local_root: Path, small_disk: Path) -> None:
    store = LocalStore(local_root)
    source = small_disk / "model.pt"
    source.write_bytes(b"weights")
    seen: list[int] = []
    store.upload(source, "model.pt", seen.append)
    found = store.get("model.pt")
    assert found is not None and found.body == b"weights"
    assert seen == [7]
    assert stat.S_IMODE((local_root / "model.pt").stat().st_mode) == 0o444
    source.write_bytes(b"changed")
    assert store.get("model.pt") == found


def test_a_copy_is_held_against_what_the_file_is_said_to_be(local_root: Path, small_disk: Path) -> None:
    store = LocalStore(local_root)
    source = small_disk / "model.pt"
    source.write_bytes(b"weights")
    with pytest.raises(Altered, match=r"model\.pt has been altered since it was written"):
        store.upload(source, "model.pt", known="0" * 64)
    assert list(store.list("")) == []
    assert [path.name for path in local_root.rglob("*") if path.is_file() and path.name != "store.json"] == []


def test_a_listing_does_not_read_uploaded_files(local_root: Path, tmp_path: Path) -> None:
    LocalStore(local_root).upload(sparse(tmp_path / "model.pt", 64 * 1024**2), "model.pt")
    store = LocalStore(local_root)
    before = read_bytes()
    [entry] = store.list("")
    store.delete("model.pt", entry.etag)
    assert entry.size == 64 * 1024**2
    assert read_bytes() - before < 1024**2
    assert list(store.list("")) == []


def sparse(path: Path, size_bytes: int) -> Path:
    path.touch()
    os.truncate(path, size_bytes)
    return path


def test_polling_does_not_read_what_has_not_changed(local_root: Path) -> None:
    store = LocalStore(local_root, now=lambda: time() + 10)  # files count as settled at once
    etag = store.put("heartbeat", b"x" * 1000)
    store.get_if_changed("heartbeat", None)
    before = read_bytes()
    for _ in range(1000):
        store.get_if_changed("heartbeat", etag)
    assert read_bytes() - before < 100_000, "a thousand reads would be a million bytes"


def test_a_change_is_seen_even_where_time_stamps_stand_still(local_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written within one tick, with the same size and a used inode number: not to be told apart from outside."""
    monkeypatch.setattr(local, "_identity", lambda status: (1, 1, 1, status.st_size))
    store = LocalStore(local_root)
    etag = store.put("heartbeat", b"old")
    store.get_if_changed("heartbeat", None)
    store.put("heartbeat", b"new")
    found = store.get_if_changed("heartbeat", etag)
    assert found is not None and found is not UNCHANGED and found.body == b"new"
    [entry] = store.list("")
    assert entry.etag == found.etag


@pytest.mark.parametrize("moment", ["before the link", "before the inner directory", "as another makes one too"])
def test_a_directory_pruned_while_an_object_is_created_in_it(
    local_root: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Somebody deletes the last object beside it just then."""
    store = LocalStore(local_root)
    pruned: list[bool] = []

    def prune_once() -> None:
        if (local_root / "outer").exists() and not pruned:
            shutil.rmtree(local_root / "outer")
            pruned.append(True)

    link, mkdir = os.link, os.mkdir

    def linked(source: Path, target: Path) -> None:
        if moment == "before the link":
            prune_once()
        link(source, target)

    def made(path: Path, mode: int = 0o777) -> None:
        if moment == "before the inner directory":
            prune_once()
        if moment == "as another makes one too" and not pruned:
            mkdir(path)
            try:
                mkdir(path)
            finally:
                prune_once()
        else:
            mkdir(path)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "mkdir", made)
    store.create("outer/inner/key", b"1")
    assert pruned
    found = store.get("outer/inner/key")
    assert found is not None and found.body == b"1"


def read_bytes() -> int:
    """How much this process has read, by the kernel's account."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


def test_a_key_in_the_way_of_another_is_named(local_root: Path) -> None:
    store = LocalStore(local_root)
    store.create("a/b", b"1")
    writes: list[Callable[[str], object]] = [lambda key: store.put(key, b""), lambda key: store.create(key, b"")]
    for write in writes:
        for key in ["a", "a/b/c", "a/b/c/d"]:
            with pytest.raises(StoreError, match=key):
                write(key)
    with pytest.raises(Conflict):
        store.create("a/b", b"2")
    assert [entry.key for entry in store.list("")] == ["a/b"]


def test_a_store_that_has_gone_does_not_look_empty(local_root: Path, tmp_path: Path) -> None:
    """A controller that saw no jobs would end their instances."""
    store = LocalStore(local_root)
    store.create("jobs/a", b"1")
    local_root.rename(tmp_path / "unmounted")
    uses: list[Callable[[], object]] = [
        lambda: store.get("jobs/a"),
        lambda: store.get_if_changed("jobs/a", "etag"),
        lambda: list(store.list("")),
        lambda: list(store.prefixes("")),
        lambda: store.put("jobs/b", b""),
        lambda: store.create("jobs/b", b""),
        lambda: store.delete("jobs/a"),
        lambda: store.download("jobs/a", tmp_path / "file"),
    ]
    for use in uses:
        with pytest.raises(StoreError):
            use()
    assert not local_root.exists(), "and it is not made again, empty"


def test_a_full_disk_is_said_and_does_no_harm(small_disk: Path, tmp_path: Path) -> None:
    store = LocalStore(small_disk / "store")
    etag = store.create("record", b"old")
    too_much = b"x" * 2_000_000
    source = tmp_path / "model.pt"
    source.write_bytes(too_much)
    writes: list[Callable[[], object]] = [
        lambda: store.create("new", too_much),
        lambda: store.replace("record", too_much, etag),
        lambda: store.put("record", too_much),
        lambda: store.upload(source, "model.pt"),
    ]
    for write in writes:
        with pytest.raises(StoreError, match="the disk is full"):
            write()
    assert [entry.key for entry in store.list("")] == ["record"]
    assert list((small_disk / "store" / "~tmp").iterdir()) == [], "what was half written is gone, and its space free"
    store.replace("record", b"new", etag)


def test_a_full_disk_at_a_download_leaves_no_file(local_root: Path, small_disk: Path) -> None:
    store = LocalStore(local_root)
    store.put("model.pt", b"x" * 2_000_000)
    with pytest.raises(StoreError, match="the disk is full"):
        store.download("model.pt", small_disk / "model.pt")
    assert list(small_disk.iterdir()) == []


def test_a_directory_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnreachable, match="file"):
        LocalStore(tmp_path / "file")
    with pytest.raises(StoreUnreachable, match="below"):
        LocalStore(tmp_path / "file" / "below")


def test_a_read_only_file_system_is_refused_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnreachable, match="read-only"):
        LocalStore(small_disk / "store")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_copied_for_its_owner_may_write_to_it_again(local_root: Path, tmp_path: Path) -> None:
    store, source = LocalStore(local_root), tmp_path / "source"
    source.write_bytes(b"1")
    os.chown(source, 10001, 10001)
    store.upload(source, "key")
    assert not (local_root / "key").samefile(source)
    assert (local_root / "key").stat().st_uid == 0
    assert source.stat().st_mode & 0o200, "nothing is done to it"


def test_what_is_uploaded_is_what_was_opened(local_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes its name meanwhile."""
    store, source, other = LocalStore(local_root), tmp_path / "source", tmp_path / "other"
    source.write_bytes(b"1")
    other.write_bytes(b"2")
    fsync = os.fsync

    def swapped_meanwhile(descriptor: int) -> None:
        fsync(descriptor)
        if not source.is_symlink():
            source.unlink()
            source.symlink_to(other)

    monkeypatch.setattr(os, "fsync", swapped_meanwhile)
    store.upload(source, "key")
    found = store.get("key")
    assert found is not None and found.body == b"1"
    assert other.stat().st_mode & 0o200
