"""Large files on S3: in parts, each checked; what was interrupted goes on; two versions never mix."""

import os
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from orchestrator.store import Missing, ReplyLost, StoreError, open_store
from orchestrator.store.parts import in_order, part_size
from orchestrator.store.s3_download import PART_BYTES
from tests.store.conftest import url_of
from tests.support.s3_faults import Bench, answered, timed_out

KEY = "jobs/digits/checkpoints/000100-g1/model.pt"
PARTS = 4
CONTENT = b"".join(bytes([number]) * PART_BYTES for number in range(PARTS - 1)) + b"the rest"

TRANSFER = """
import os, pathlib, sys
from orchestrator.store import open_store, parts
parts.PART_BYTES = int(sys.argv[6])
store = open_store(sys.argv[2], os.environ)
do = {"up": lambda p: store.upload(path, sys.argv[4], p), "down": lambda p: store.download(sys.argv[4], path, p)}
path, done = pathlib.Path(sys.argv[3]), 0
def tell(some_bytes):
    global done
    done += some_bytes
    print(done, flush=True)
    if done >= int(sys.argv[5]):
        sys.stdin.read()
do[sys.argv[1]](tell)
"""


@pytest.fixture(
    params=[
        pytest.param("seaweedfs", marks=pytest.mark.requires("seaweedfs")),
        pytest.param("ministack", marks=pytest.mark.requires("ministack")),
    ]
)
def bench(request: pytest.FixtureRequest) -> Bench:
    """A store on a real server."""
    return Bench(url_of(request.param, request))


@pytest.fixture
def moto(request: pytest.FixtureRequest) -> Bench:
    """A store on moto, for what is injected and so the same on every server."""
    return Bench(url_of("moto", request))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of several parts."""
    path = tmp_path / "source" / "model.pt"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A place for a file, in a directory of its own."""
    return tmp_path / "target" / "model.pt"


def run_until(bench: Bench, task: str, path: Path, stop_bytes: int) -> None:
    """Transfer in a process of its own, which is killed once so many bytes are done."""
    child = subprocess.Popen(
        [sys.executable, "-c", TRANSFER, task, bench.store.url, str(path), KEY, str(stop_bytes), str(PART_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert any(int(line) >= stop_bytes for line in child.stdout), "it ended before it was killed"
    child.send_signal(signal.SIGKILL)
    child.communicate()


def lying_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_an_upload_whose_process_was_killed_begins_anew(bench: Bench, source: Path, target: Path) -> None:
    """Without a question whether there is one: what is left of it is ended by its age."""
    run_until(bench, "up", source, 2 * PART_BYTES)
    assert list(bench.store.list("")) == []
    assert bench.store.upload(source, KEY) == sha256(CONTENT).hexdigest()
    assert sorted(bench.requests) == sorted(
        ["ListObjectsV2", "CreateMultipartUpload", *["UploadPart"] * PARTS, "CompleteMultipartUpload"]
    )
    assert bench.store.abort_uploads("", 0) == 1
    bench.store.download(KEY, target)
    assert target.read_bytes() == CONTENT


def test_an_upload_that_the_network_ended_goes_on(bench: Bench, source: Path, target: Path) -> None:
    passing, gone = [None] * 2, [True]

    def cut(**_: object) -> None:
        if passing:
            passing.pop()
        elif gone:
            raise ConnectTimeoutError(endpoint_url="http://test")

    bench.at("before-send.s3.UploadPart", cut)
    with pytest.raises(StoreError, match="does not answer"):
        bench.store.upload(source, KEY)
    bench.requests.clear()
    gone.clear()
    assert bench.store.upload(source, KEY) == sha256(CONTENT).hexdigest()
    assert sorted(bench.requests) == ["CompleteMultipartUpload", "ListParts", *["UploadPart"] * (PARTS - 2)]
    bench.store.download(KEY, target)
    assert target.read_bytes() == CONTENT
    assert bench.store.abort_uploads("", 0) == 0, "nothing is left of it"


def test_parts_of_another_file_are_not_taken_for_ones_own(bench: Bench, source: Path, target: Path) -> None:
    source.write_bytes(CONTENT[:PART_BYTES] + b"x" * (PART_BYTES * PARTS) + b"beyond the end")
    bench.answer("CompleteMultipartUpload", (403, "AccessDenied"))
    with pytest.raises(StoreError):
        bench.store.upload(source, KEY)
    bench.requests.clear()
    source.write_bytes(CONTENT)
    bench.store.upload(source, KEY)
    assert bench.requests.count("UploadPart") == PARTS - 1, "the first part is ours"
    bench.store.download(KEY, target)
    assert target.read_bytes() == CONTENT


def test_each_part_says_its_sha256_and_no_request_of_an_upload_has_a_condition(moto: Bench, source: Path) -> None:
    """moto takes any checksum: so it is seen what is sent."""
    said: dict[str, list[bytes]] = {}

    def note(request: Any, event_name: str, **_: object) -> None:
        assert not {"If-Match", "If-None-Match"} & set(request.headers)
        said.setdefault(event_name.rpartition(".")[2], []).append(request.headers.get("x-amz-checksum-sha256"))

    moto.at("before-send.s3", note)
    moto.store.upload(source, KEY)
    starts = range(0, len(CONTENT), PART_BYTES)
    digests = [b64encode(sha256(CONTENT[start : start + PART_BYTES]).digest()) for start in starts]
    assert sorted(said["UploadPart"]) == sorted(digests)
    source.write_bytes(b"small")
    moto.store.upload(source, "small")
    assert said["PutObject"] == [b64encode(sha256(b"small").digest())]


def test_an_upload_that_may_not_list_what_is_there_begins_anew(moto: Bench, source: Path) -> None:
    moto.answer("CompleteMultipartUpload", (403, "AccessDenied"))
    with pytest.raises(StoreError):
        moto.store.upload(source, KEY)
    moto.requests.clear()
    moto.answer("ListParts", (403, "AccessDenied"))
    moto.store.upload(source, KEY)
    assert moto.requests.count("CreateMultipartUpload") == 1 and moto.requests.count("UploadPart") == PARTS


def test_an_upload_that_another_has_ended_says_so(moto: Bench, source: Path) -> None:
    moto.answer("UploadPart", (404, "NoSuchUpload"))
    with pytest.raises(StoreError, match=f"upload of {KEY} was ended by somebody else.*try it again"):
        moto.store.upload(source, KEY)
    moto.store.upload(source, KEY)
    assert "ListParts" not in moto.requests, "of that one nothing more is asked"


def test_a_lost_reply_to_the_last_request_is_cleared_up(moto: Bench, source: Path) -> None:
    """It was carried out, and the second finds no upload any more."""
    moto.fail("after-call.s3.CompleteMultipartUpload", timed_out())
    moto.answer("CompleteMultipartUpload", (404, "NoSuchUpload"), after=1)
    moto.store.upload(source, KEY)
    assert moto.requests[-3:] == ["CompleteMultipartUpload", "CompleteMultipartUpload", "HeadObject"]


@pytest.mark.parametrize("there", [None, b"something else"])
def test_a_lost_reply_that_cannot_be_cleared_up_is_said(moto: Bench, source: Path, there: bytes | None) -> None:
    if there is not None:
        moto.store.put(KEY, there)
    moto.fail("before-send.s3.CompleteMultipartUpload", timed_out())
    moto.answer("CompleteMultipartUpload", (404, "NoSuchUpload"))
    with pytest.raises(ReplyLost, match="is not known"):
        moto.store.upload(source, KEY)


def test_a_download_whose_process_was_killed_goes_on(bench: Bench, source: Path, target: Path) -> None:
    bench.store.upload(source, KEY)
    run_until(bench, "down", target, 2 * PART_BYTES)
    assert not target.exists(), "a file appears whole or not at all"
    bench.requests.clear()
    done: list[int] = []
    assert bench.store.download(KEY, target, done.append) == sha256(CONTENT).hexdigest()
    assert bench.requests.count("GetObject") == PARTS - 2
    assert target.read_bytes() == CONTENT and sum(done) == len(CONTENT)
    assert lying_in(target.parent) == ["model.pt"]


def test_a_download_goes_on_only_with_the_same_version(bench: Bench, source: Path, target: Path) -> None:
    bench.store.upload(source, KEY)

    def refuse_the_later_half(request: Any, **_: object) -> Any:
        extent = request.headers["Range"]
        first = int((extent.decode() if isinstance(extent, bytes) else extent).removeprefix("bytes=").partition("-")[0])
        return answered(request.url, 403, "AccessDenied") if first >= 2 * PART_BYTES else None

    bench.at("before-send.s3.GetObject", refuse_the_later_half)
    with pytest.raises(StoreError):
        bench.store.download(KEY, target)
    [left] = lying_in(target.parent)
    other = CONTENT[::-1]
    source.write_bytes(other)
    again = Bench(bench.store.url)
    again.store.upload(source, KEY)
    again.store.download(KEY, target)
    assert target.read_bytes() == other
    assert lying_in(target.parent) == ["model.pt"], f"{left} is of no use any more"


def test_an_object_that_is_replaced_during_its_download_is_fetched_anew(
    bench: Bench, source: Path, target: Path
) -> None:
    bench.store.upload(source, KEY)
    other = CONTENT[::-1]
    source.write_bytes(other)
    done: list[int] = []

    def replace_at_first(some_bytes: int) -> None:
        if not done:
            Bench(bench.store.url).store.upload(source, KEY)
        done.append(some_bytes)

    # The first answers wait for this: so the later parts are asked for when it has been replaced.
    assert bench.store.download(KEY, target, replace_at_first) == sha256(target.read_bytes()).hexdigest()
    assert target.read_bytes() in (other, CONTENT)
    assert sum(done) == len(CONTENT)
    assert lying_in(target.parent) == ["model.pt"]


def test_an_object_that_never_stays_the_same_is_given_up(moto: Bench, source: Path, target: Path) -> None:
    moto.store.upload(source, KEY)
    moto.answer("GetObject", *[(412, "PreconditionFailed")] * 100)
    with pytest.raises(StoreError, match=r"was replaced 3 times while it was fetched"):
        moto.store.download(KEY, target)
    assert lying_in(target.parent) == []


def test_an_object_that_goes_during_its_download_is_missing(moto: Bench, source: Path, target: Path) -> None:
    moto.store.upload(source, KEY)
    moto.answer("GetObject", *[(404, "NoSuchKey")] * PARTS, after=1)
    with pytest.raises(Missing):
        moto.store.download(KEY, target)
    assert not target.exists()


def test_two_that_download_to_the_same_place_do_not_disturb_each_other(
    bench: Bench, source: Path, target: Path
) -> None:
    bench.store.upload(source, KEY)
    with ThreadPoolExecutor(2) as pool:
        digests = list(pool.map(lambda _: bench.store.download(KEY, target), range(2)))
    assert digests == [sha256(CONTENT).hexdigest()] * 2
    assert target.read_bytes() == CONTENT
    assert lying_in(target.parent) == ["model.pt"]


def test_unfinished_uploads_are_ended_by_their_age(bench: Bench, source: Path) -> None:
    for key in ("jobs/digits/model.pt", "jobs/other/model.pt"):
        bench.answer("UploadPart", *[(403, "AccessDenied")] * PARTS, after=1)
        with pytest.raises(StoreError):
            bench.store.upload(source, key)
    assert bench.store.abort_uploads("jobs/digits/", 3600) == 0, "it may well be under way"
    assert bench.store.abort_uploads("jobs/digits/", 0) == 1
    assert bench.store.abort_uploads("jobs/", 0) == 1, "that of the other job"
    assert bench.store.abort_uploads("", 0) == 0


def test_the_age_of_an_upload_is_by_the_servers_clock(bench: Bench, source: Path) -> None:
    bench.answer("UploadPart", *[(403, "AccessDenied")] * PARTS, after=1)
    with pytest.raises(StoreError):
        bench.store.upload(source, KEY)

    def a_year_later(parsed: dict[str, Any], **_: object) -> None:
        parsed["ResponseMetadata"]["HTTPHeaders"]["date"] = "Sat, 01 Jan 2050 00:00:00 GMT"

    bench.at("after-call.s3.ListMultipartUploads", a_year_later)
    assert bench.store.abort_uploads("", 86_400) == 1


def test_an_upload_that_was_finished_meanwhile_is_not_ended(moto: Bench, source: Path) -> None:
    run_until(moto, "up", source, PART_BYTES)
    moto.answer("AbortMultipartUpload", (404, "NoSuchUpload"))
    assert moto.store.abort_uploads("", 0) == 0


def test_parts_grow_where_there_would_be_too_many() -> None:
    assert part_size(10**9) == PART_BYTES
    for total_bytes in (8 * 10**10, 10**12, 5 * 10**12 + 1):
        assert total_bytes / part_size(total_bytes) <= 10_000


def test_jobs_are_begun_when_there_is_room_and_answered_in_order() -> None:
    begun: list[int] = []

    def job(number: int) -> Callable[[], int]:
        begun.append(number)
        return lambda: number

    answers = in_order(job(number) for number in range(100))
    assert [next(answers) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 10
    assert list(answers) == list(range(3, 100))


def test_a_full_disk_keeps_no_half_file(moto: Bench, source: Path, small_disk: Path) -> None:
    moto.store.upload(source, KEY)
    with pytest.raises(StoreError, match="the disk is full"):
        moto.store.download(KEY, small_disk / "model.pt")
    assert lying_in(small_disk) == []


def test_its_url_is_enough(bench: Bench, source: Path, target: Path) -> None:
    open_store(bench.store.url, os.environ).upload(source, KEY)
    bench.store.download(KEY, target)
    assert target.read_bytes() == CONTENT
