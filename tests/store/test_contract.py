"""What every store promises, tried on each: in memory, in a directory, on three S3 servers."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pytest

from orchestrator.store import UNCHANGED, Altered, Conflict, Missing, Store, StoreError, open_store

KEY = "jobs/digits/record.json"


def test_an_object_is_read_as_it_was_written(store: Store) -> None:
    etag = store.create(KEY, b"\x00one\xff")
    found = store.get(KEY)
    assert found is not None
    assert (found.key, found.body, found.etag) == (KEY, b"\x00one\xff", etag)


def test_a_missing_object_is_none(store: Store) -> None:
    assert store.get(KEY) is None
    assert store.get_if_changed(KEY, None) is None
    assert store.get_if_changed(KEY, "an etag") is None
    store.create(KEY, b"one")
    assert store.get("jobs/digits") is None, "a directory is no object"
    assert store.get("jobs/dig") is None, "the beginning of a key is no object"


def test_create_refuses_what_exists(store: Store) -> None:
    store.create(KEY, b"one")
    with pytest.raises(Conflict):
        store.create(KEY, b"one")
    assert body_of(store, KEY) == b"one"


def test_replace_wants_the_etag_that_is_there(store: Store) -> None:
    first = store.create(KEY, b"one")
    second = store.replace(KEY, b"two", first)
    with pytest.raises(Conflict):
        store.replace(KEY, b"three", first)
    assert body_of(store, KEY) == b"two"
    store.replace(KEY, b"four", second)
    assert body_of(store, KEY) == b"four"


def test_replace_refuses_a_missing_object(store: Store) -> None:
    etag = store.create("elsewhere", b"one")
    with pytest.raises(Conflict):
        store.replace(KEY, b"one", etag)
    assert store.get(KEY) is None


def test_put_writes_whatever_is_there(store: Store) -> None:
    first = store.put(KEY, b"one")
    second = store.put(KEY, b"two")
    assert first != second
    assert body_of(store, KEY) == b"two"
    store.replace(KEY, b"three", second)


def test_identical_bytes_pass_for_each_other(store: Store) -> None:
    """Not wanted, but so it is on S3: this is why records carry a nonce."""
    first = store.create(KEY, b"A")
    store.replace(KEY, b"A", store.replace(KEY, b"B", first))
    store.replace(KEY, b"C", first)


def test_delete_with_an_etag_removes_only_that_object(store: Store) -> None:
    first = store.create(KEY, b"one")
    second = store.replace(KEY, b"two", first)
    with pytest.raises(Conflict):
        store.delete(KEY, first)
    assert body_of(store, KEY) == b"two"
    store.delete(KEY, second)
    assert store.get(KEY) is None
    with pytest.raises(Conflict):
        store.delete(KEY, second)


def test_delete_without_an_etag_is_content_with_nothing(store: Store) -> None:
    store.delete(KEY)
    store.create(KEY, b"one")
    store.delete(KEY)
    store.delete(KEY)
    assert store.get(KEY) is None
    store.create(KEY, b"again")


def test_get_if_changed_tells_old_from_new(store: Store) -> None:
    first = store.create(KEY, b"one")
    assert store.get_if_changed(KEY, first) is UNCHANGED
    assert store.get_if_changed(KEY, first) is UNCHANGED
    second = store.replace(KEY, b"two", first)
    found = store.get_if_changed(KEY, first)
    assert found is not None and found is not UNCHANGED
    assert (found.body, found.etag) == (b"two", second)
    fresh = store.get_if_changed(KEY, None)
    assert fresh is not None and fresh is not UNCHANGED
    assert fresh.body == b"two"
    store.delete(KEY)
    assert store.get_if_changed(KEY, second) is None


def test_get_if_changed_sees_every_one_of_many_quick_changes(store: Store) -> None:
    """Same size, same moment, and on many file systems the same inode again: only the content differs."""
    etag = store.put(KEY, b"000")
    for count in range(1, 100):
        store.put(KEY, b"%03d" % count)
        found = store.get_if_changed(KEY, etag)
        assert found is not None and found is not UNCHANGED
        assert found.body == b"%03d" % count
        etag = found.etag


def test_the_objects_of_a_directory_are_listed_in_the_order_of_their_names(store: Store) -> None:
    """Byte order: '-' and '.' before digits, capitals before small letters. Directories come where the store likes."""
    names = ["b", "a-b", "a.b", "a0", "a", "Z", "_", "b.c", "0010", "0009", "1"]
    for name in names:
        store.put(f"dir/{name}", name.encode())
    for key in ["dir.x/y", "dir-x/y", "dirx", "dir/a-0/x", "dir/aa/x/y"]:
        store.put(key, b"elsewhere")
    listed = list(store.list("dir/"))
    flat = [entry for entry in listed if entry.key.count("/") == 1]
    assert [entry.key for entry in flat] == [f"dir/{name}" for name in sorted(names)]
    assert [entry.size for entry in flat] == [len(name) for name in sorted(names)]
    assert sorted(entry.key for entry in listed if entry not in flat) == ["dir/a-0/x", "dir/aa/x/y"]
    for entry in listed:
        found = store.get(entry.key)
        assert found is not None and found.etag == entry.etag


def test_list_keeps_to_its_prefix(store: Store) -> None:
    keys = sorted(["a-b/x", "a.b", "a/b/c", "a/b/d", "a/z", "a0", "b/c", "a/b.c"])
    for key in keys:
        store.put(key, b"")
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/c", "b", "a/b.", "c"]:
        expected = [key for key in keys if key.startswith(prefix)]
        assert sorted(entry.key for entry in store.list(prefix)) == expected, prefix


def test_list_starts_after_a_key_that_need_not_exist(store: Store) -> None:
    keys = sorted(f"logs/{name}" for name in ["0001", "0002", "0010", "a", "a-b", "a.b"])
    for key in [*keys, "log", "logs.x/y", "zz"]:
        store.put(key, b"")
    for start_after in ["", "a", "logs/", "logs/0", "logs/0001", "logs/0005", "logs/a", "logs/a-", "logs/z", "zz"]:
        expected = [key for key in keys if key > start_after]
        assert [entry.key for entry in store.list("logs/", start_after)] == expected, start_after


def test_list_goes_on_past_a_page(store: Store) -> None:
    """S3 gives 1,000 keys a page."""
    keys = [f"events/{count:04d}" for count in range(1003)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert [entry.key for entry in store.list("events/")] == keys
    assert [entry.key for entry in store.list("events/", "events/1000")] == keys[1001:]
    assert len(list(islice(store.list("events/"), 3))) == 3, "a listing can be left"


def test_objects_may_go_during_a_listing(store: Store) -> None:
    for name in "abcd":
        store.put(f"logs/{name}", b"")
    seen = []
    for entry in store.list("logs/"):
        seen.append(entry.key)
        store.delete(entry.key)
    assert seen == ["logs/a", "logs/b", "logs/c", "logs/d"]
    assert list(store.list("")) == []


def test_prefixes_names_the_directories_that_hold_something(store: Store) -> None:
    for key in ["jobs/b/record.json", "jobs/a/x/y", "jobs/a/z", "jobs/a-b/record.json", "jobs/file", "other/c/d"]:
        store.put(key, b"")
    assert sorted(store.prefixes("jobs/")) == ["a", "a-b", "b"]
    assert list(store.prefixes("")) == ["jobs", "other"]
    assert list(store.prefixes("jobs/a/")) == ["x"]
    assert list(store.prefixes("nothing/")) == []
    store.delete("jobs/b/record.json")
    assert {"a", "a-b"} <= set(store.prefixes("jobs/")) <= {"a", "a-b", "b"}, "some servers clean up later"


def test_prefixes_of_one_length_are_in_order(store: Store) -> None:
    names = ["000000000100-g000001", "000000000090-g000010", "000000000100-g000000", "000000000010-g000002"]
    for name in names:
        store.put(f"checkpoints/{name}/manifest.json", b"")
    assert list(store.prefixes("checkpoints/")) == sorted(names)


def test_a_large_file_goes_up_and_comes_down(store: Store, tmp_path: Path) -> None:
    """12 MiB: more than one part on S3."""
    content = os.urandom(1024**2) * 12
    source, target = tmp_path / "model.pt", tmp_path / "new" / "model.pt"
    source.write_bytes(content)
    up: list[int] = []
    down: list[int] = []
    sent = store.upload(source, "jobs/digits/checkpoints/000100-g1/model.pt", up.append)
    came = store.download("jobs/digits/checkpoints/000100-g1/model.pt", target, down.append)
    assert sent == came == sha256(content).hexdigest()
    assert target.read_bytes() == content
    assert sum(up) == sum(down) == len(content)
    assert [path.name for path in target.parent.iterdir()] == ["model.pt"], "no temporary file is left"
    [entry] = store.list("jobs/")
    assert (entry.key, entry.size) == ("jobs/digits/checkpoints/000100-g1/model.pt", len(content))


def test_a_file_can_be_uploaded_again(store: Store, tmp_path: Path) -> None:
    """As an agent does that was killed between upload and commit."""
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    assert store.upload(source, "model.pt") == store.upload(source, "model.pt") == sha256(b"weights").hexdigest()
    source.unlink()
    source.write_bytes(b"other weights")
    store.upload(source, "model.pt")
    assert body_of(store, "model.pt") == b"other weights"


@pytest.mark.parametrize("size", [7, 12 * 1024**2], ids=["small", "in-parts"])
def test_a_file_that_is_what_it_was_said_to_be_is_taken(store: Store, tmp_path: Path, size: int) -> None:
    (tmp_path / "model.pt").write_bytes(bytes(size))
    known = sha256(bytes(size)).hexdigest()
    assert store.upload(tmp_path / "model.pt", "model.pt", known=known) == known
    assert [entry.size for entry in store.list("")] == [size]


@pytest.mark.parametrize("size", [7, 12 * 1024**2], ids=["small", "in-parts"])
def test_a_file_that_was_altered_is_refused_by_a_store_that_reads_it(store: Store, tmp_path: Path, size: int) -> None:
    (tmp_path / "model.pt").write_bytes(bytes(size))
    known = sha256(b"as it was").hexdigest()
    if store.url.startswith("file:"):  # it shares the file, and takes the word for it
        assert store.upload(tmp_path / "model.pt", "model.pt", known=known) == known
        return
    with pytest.raises(Altered, match=r"model\.pt has been altered since it was written: its SHA-256 is "):
        store.upload(tmp_path / "model.pt", "model.pt", known=known)
    assert list(store.list("")) == []
    assert store.abort_uploads("", 0) == 0, "and nothing of it is left to pay for"
    store.upload(tmp_path / "model.pt", "model.pt")
    assert [entry.size for entry in store.list("")] == [size]


def test_an_empty_file_is_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert store.upload(tmp_path / "empty", "empty") == store.download("empty", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""


def test_what_is_finished_is_no_unfinished_upload(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(9 * 1024**2))
    store.upload(tmp_path / "large", "jobs/digits/large")
    assert store.abort_uploads("jobs/digits/", 0) == 0
    assert [entry.size for entry in store.list("")] == [9 * 1024**2]


def test_an_uploaded_file_outlives_its_source(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    source.write_bytes(b"weights")
    store.upload(source, "model.pt")
    source.unlink()
    assert body_of(store, "model.pt") == b"weights"


def test_download_of_a_missing_object_leaves_the_file_alone(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "model.pt"
    target.write_bytes(b"old")
    with pytest.raises(Missing):
        store.download("nothing", target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_upload_of_a_missing_file_names_it(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no-such-file.*no such file"):
        store.upload(tmp_path / "no-such-file", "model.pt")
    assert store.get("model.pt") is None


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "a//b",
        "a/",
        "../a",
        "a/../b",
        "a/./b",
        ".",
        "ä",
        "a b",
        "a\x00",
        "a\n",
        "~tmp/x",
        "x" * 201,
    ],
)
def test_a_key_that_could_escape_or_confuse_is_refused(store: Store, key: str, tmp_path: Path) -> None:
    uses: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.get_if_changed(key, None),
        lambda: store.create(key, b""),
        lambda: store.replace(key, b"", "etag"),
        lambda: store.put(key, b""),
        lambda: store.delete(key),
        lambda: store.upload(tmp_path, key),
        lambda: store.download(key, tmp_path / "x"),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="cannot be a key"):
            use()


def test_a_prefix_that_could_escape_is_refused(store: Store) -> None:
    for prefix in ["../", "/", "a//", "a/../b"]:
        with pytest.raises(StoreError):
            list(store.list(prefix))
        with pytest.raises(StoreError):
            list(store.prefixes(prefix))
    with pytest.raises(StoreError, match="must end in '/'"):
        list(store.prefixes("jobs"))


def test_its_url_opens_it_again(store: Store) -> None:
    store.create(KEY, b"one")
    if store.url != "memory:":
        assert body_of(open_store(store.url, os.environ), KEY) == b"one"


def body_of(store: Store, key: str) -> bytes:
    found = store.get(key)
    assert found is not None, f"{key} is missing"
    return found.body
