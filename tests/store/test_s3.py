"""What only S3 does: lose replies, answer 409 and 503, ask who owns a bucket, refuse.

A real client talks to moto's server; faults are put in at botocore's events, so that its real error handling runs.
"""

import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from botocore.exceptions import ConnectTimeoutError

from orchestrator.errors import CredentialsError, UsageError
from orchestrator.store import (
    Conflict,
    ReplyLost,
    Store,
    StoreError,
    StoreUnreachable,
    Unsupported,
    document,
    open_store,
)
from orchestrator.store.document import Document
from orchestrator.store.lease import Lease
from orchestrator.store.owner import this_process
from orchestrator.store.s3 import Settings, connect, make_client
from orchestrator.store.s3_download import PART_BYTES
from orchestrator.store.s3_requests import TRIES
from tests.support.moto_server import running_moto
from tests.support.s3_faults import Bench, answered_with, timed_out
from tests.support.s3_servers import READER

OWNER = "123456789012"


@pytest.fixture
def bench(bucket: str) -> Bench:
    """A store to put faults in."""
    return Bench(f"s3://{bucket}/{secrets.token_hex(6)}")


def test_a_busy_server_is_asked_again_with_growing_pauses(bench: Bench) -> None:
    bench.answer("PutObject", (503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable"))
    bench.store.put("key", b"1")
    assert bench.pauses == [0.2, 0.4, 0.8]


def test_tries_are_bounded(bench: Bench) -> None:
    bench.answer("GetObject", *[(503, "SlowDown")] * 100)
    with pytest.raises(StoreError, match=r"GetObject of key in s3://.*SlowDown"):
        bench.store.get("key")
    assert bench.requests == ["GetObject"] * TRIES
    assert len(bench.pauses) == TRIES - 1 and max(bench.pauses) <= 3.0


def test_a_conditional_conflict_409_is_sent_again_as_it_was(bench: Bench) -> None:
    etag = bench.store.create("key", b"1")
    bench.answer("PutObject", *[(409, "ConditionalRequestConflict")] * 2)
    bench.store.replace("key", b"2", etag)
    assert bench.requests == ["PutObject"] * 4


def test_a_conditional_conflict_409_without_end_tells_of_no_winner(bench: Bench) -> None:
    """Nobody may have written it: whoever took that for a lost race would look for what was written, or step down."""
    bench.answer("PutObject", (503, "SlowDown"), *[(409, "ConditionalRequestConflict")] * (TRIES - 1))
    with pytest.raises(
        StoreError, match=rf"key in s3://.* was not written in {TRIES} tries: .*409.*Try again"
    ) as caught:
        bench.store.create("key", b"1")
    assert not isinstance(caught.value, ReplyLost), "it is certain that nothing was written"
    assert bench.requests == ["PutObject"] * TRIES


def test_a_leader_whose_renewal_is_answered_409_leads_on_until_its_time_is_up(bench: Bench) -> None:
    now_s = 0.0
    lease = Lease(bench.store, this_process("test"), ttl_s=20.0, clock=lambda: now_s)
    assert lease.try_acquire()
    now_s = 10.0
    bench.answer("PutObject", *[(409, "ConditionalRequestConflict")] * TRIES)
    with pytest.raises(StoreError, match="409"):
        lease.try_acquire()
    assert lease.held, "nobody has taken over"
    now_s = 16.0
    assert not lease.held
    assert lease.try_acquire() and lease.epoch == 1


@pytest.mark.parametrize("answer", [(412, "PreconditionFailed"), (404, "NoSuchKey")])
def test_412_and_404_under_if_match_both_mean_lost(bench: Bench, answer: tuple[int, str]) -> None:
    """AWS answers 404 for a missing key, other servers 412."""
    bench.answer("PutObject", answer)
    with pytest.raises(Conflict):
        bench.store.replace("key", b"1", '"etag"')
    bench.answer("DeleteObject", answer)
    with pytest.raises(Conflict):
        bench.store.delete("key", '"etag"')
    assert bench.pauses == [], "a lost race is not run again"


def test_a_lost_reply_leaves_a_plain_create_in_doubt(bench: Bench) -> None:
    """The first was applied, the second comes back as 412: that is not for the store to judge."""
    bench.fail("after-call.s3.PutObject", timed_out())
    with pytest.raises(ReplyLost, match="key was written is not known"):
        bench.store.create("key", b"1")
    found = bench.store.get("key")
    assert found is not None and found.body == b"1"


def test_a_record_whose_reply_was_lost_is_written(bench: Bench) -> None:
    bench.fail("after-call.s3.PutObject", timed_out())
    created = document.create(bench.store, "key", Document(), document.random_nonce)
    bench.fail("after-call.s3.PutObject", timed_out())
    swapped = document.swap(bench.store, "key", created, Document(), document.random_nonce)
    assert document.load(bench.store, "key", Document) == swapped
    assert bench.requests == ["PutObject", "PutObject", "GetObject"] * 2 + ["GetObject"]


def test_a_record_that_another_wrote_while_the_reply_was_lost_is_not_ours(bench: Bench, bucket: str) -> None:
    created = document.create(bench.store, "key", Document(), document.random_nonce)

    def another_is_first(**_: object) -> None:
        bench.client.meta.events.unregister("before-call.s3.PutObject", another_is_first)
        document.swap(bench.store, "key", created, Document(), document.random_nonce)
        raise timed_out()

    bench.client.meta.events.register("before-call.s3.PutObject", another_is_first)
    with pytest.raises(Conflict):
        document.swap(bench.store, "key", created, Document(), document.random_nonce)


def test_replies_lost_without_end_leave_it_open(bench: Bench) -> None:
    bench.fail("after-call.s3.PutObject", *[timed_out() for _ in range(100)])
    with pytest.raises(ReplyLost):
        bench.store.put("key", b"1")


def test_what_was_surely_not_sent_is_surely_not_written(bench: Bench) -> None:
    bench.fail("before-send.s3.PutObject", *[ConnectTimeoutError(endpoint_url="http://test") for _ in range(100)])
    with pytest.raises(StoreUnreachable) as caught:
        bench.store.create("key", b"1")
    assert not isinstance(caught.value, ReplyLost)
    assert isinstance(caught.value, UsageError) and caught.value.exit_code == 2


def test_a_read_that_broke_off_is_only_read_again(bench: Bench) -> None:
    bench.fail("after-call.s3.GetObject", timed_out())
    assert bench.store.get("missing") is None
    assert bench.requests == ["GetObject"] * 2


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (403, "AccessDenied", CredentialsError, "s3:PutObject"),
        (400, "ExpiredToken", CredentialsError, "expired"),
        (403, "InvalidAccessKeyId", CredentialsError, "access key"),
        (403, "SignatureDoesNotMatch", CredentialsError, "secret key"),
        (403, "RequestTimeTooSkewed", CredentialsError, "clock"),
        (404, "NoSuchBucket", UsageError, "no bucket"),
        (501, "NotImplemented", Unsupported, "does not implement"),
        (400, "EntityTooLarge", StoreError, "EntityTooLarge"),
    ],
)
def test_a_refusal_says_what_and_what_to_do(
    bench: Bench, bucket: str, status: int, code: str, kind: type[Exception], words: str
) -> None:
    bench.answer("PutObject", (status, code))
    with pytest.raises(kind, match=words) as caught:
        bench.store.put("jobs/digits/record.json", b"1")
    assert isinstance(caught.value, StoreError), "whoever handles the store's errors handles this one"
    assert bucket in str(caught.value)
    assert bench.requests == ["PutObject"], "trying again would not help"


def html(request: Any, **_: object) -> Any:
    return answered_with(request.url, 200, b"<html><body>Please log in to the network.</body></html>")


@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "ListObjectsV2", "HeadObject"])
def test_a_page_where_s3_should_be_is_no_answer(bench: Bench, operation: str, tmp_path: Path) -> None:
    """A page of a hotel's network, with status 200: a listing of it would look like an empty bucket."""
    uses: dict[str, Callable[[], object]] = {
        "GetObject": lambda: bench.store.get("key"),
        "PutObject": lambda: bench.store.create("key", b"1"),
        "ListObjectsV2": lambda: list(bench.store.list("")),
        "HeadObject": lambda: bench.store.download("key", tmp_path / "file"),
    }
    bench.at(f"before-send.s3.{operation}", html)
    with pytest.raises(StoreUnreachable, match=r"is not S3: check AWS_ENDPOINT_URL_S3"):
        uses[operation]()


def test_bytes_that_are_no_xml_are_no_empty_listing(bench: Bench) -> None:
    bench.at("before-send.s3.ListObjectsV2", lambda request, **_: answered_with(request.url, 200, b"Welcome!"))
    with pytest.raises(StoreError, match="ListObjectsV2 of"):
        list(bench.store.list(""))


def test_a_404_that_does_not_name_the_key_is_no_absence(bench: Bench) -> None:
    """S3 says NoSuchKey; a proxy says only 404."""
    bench.answer("GetObject", (404, "404"))
    with pytest.raises(StoreUnreachable, match="is not S3"):
        bench.store.get("key")


@pytest.mark.requires("seaweedfs")
def test_who_may_only_read_is_told_what_is_missing(seaweed_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(seaweed_store, os.environ).put("key", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER)
    store = open_store(seaweed_store, os.environ)
    found = store.get("key")
    assert found is not None and found.body == b"1"
    assert [entry.key for entry in store.list("")] == ["key"]
    for write in (lambda: store.create("new", b""), lambda: store.put("key", b""), lambda: store.delete("key")):
        with pytest.raises(CredentialsError, match=r"these credentials need s3:(PutObject|DeleteObject)"):
            write()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(CredentialsError, match="secret key is wrong"):
        open_store(seaweed_store, os.environ).get("key")


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed"])
def test_a_bucket_in_another_region_is_found_or_said(bench: Bench, code: str) -> None:
    bench.answer("GetObject", *[(301 if code == "PermanentRedirect" else 400, code)] * 10)
    bench.answer("HeadBucket", *[(404, "404")] * 10)
    with pytest.raises(StoreUnreachable, match=r"in another region.*Set AWS_REGION"):
        bench.store.get("key")


def test_encryption_is_asked_for_with_all_that_is_written(bucket: str, tmp_path: Path) -> None:
    asked: dict[str, set[tuple[object, object]]] = {}

    def note(request: Any, event_name: str, **_: object) -> None:
        names = ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
        said = [request.headers.get(name) for name in names]
        plain = [value.decode() if isinstance(value, bytes) else value for value in said]
        asked.setdefault(event_name.rpartition(".")[2], set()).add((plain[0], plain[1]))

    for settings, expected in (
        (Settings(encryption="AES256"), ("AES256", None)),
        (Settings(encryption="aws:kms", kms_key_id="alias/elastic"), ("aws:kms", "alias/elastic")),
    ):
        asked.clear()
        bench = Bench(f"s3://{bucket}/{secrets.token_hex(6)}", settings)
        bench.at("before-send.s3", note)
        use_everything(bench.store, tmp_path)
        writes = {"PutObject", "CreateMultipartUpload"}
        assert {name: asked[name] for name in writes} == {name: {expected} for name in writes}
        assert set().union(*(asked[name] for name in asked.keys() - writes)) == {(None, None)}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"ELASTIC_S3_SSE": "rot13"}, "ELASTIC_S3_SSE=rot13 is no encryption"),
        ({"ELASTIC_S3_KMS_KEY_ID": "key"}, "only used with ELASTIC_S3_SSE=aws:kms"),
    ],
)
def test_a_misspelt_encryption_is_refused(environ: dict[str, str], words: str) -> None:
    """Nothing may be written unencrypted by mistake."""
    with pytest.raises(UsageError, match=words):
        open_store("s3://bucket", environ)


def test_no_credentials_are_said(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError, match="No AWS credentials") as caught:
        open_store(f"s3://{bucket}", os.environ).get("key")
    assert caught.value.exit_code == 4


def test_a_missing_bucket_is_never_an_empty_one(moto_server: str, tmp_path: Path) -> None:
    """A controller that saw no jobs would end their instances."""
    store = open_store("s3://no-such-bucket", os.environ)
    (tmp_path / "file").write_bytes(b"1")
    uses: list[Callable[[], object]] = [
        lambda: store.get("key"),
        lambda: store.get_if_changed("key", '"etag"'),
        lambda: store.create("key", b""),
        lambda: store.replace("key", b"", '"etag"'),
        lambda: store.delete("key"),
        lambda: store.delete("key", '"etag"'),
        lambda: list(store.list("")),
        lambda: list(store.prefixes("")),
        lambda: store.upload(tmp_path / "file", "key"),
        lambda: store.download("key", tmp_path / "new"),
    ]
    for use in uses:
        with pytest.raises(StoreUnreachable, match="There is no bucket no-such-bucket"):
            use()


def test_a_server_that_is_not_there_is_said(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")  # the port named 'discard': nobody listens
    bench = Bench(f"s3://{bucket}/prefix")
    uses: list[Callable[[], object]] = [
        lambda: bench.store.get("key"),
        lambda: bench.store.create("key", b""),
        lambda: bench.store.download("key", tmp_path / "new"),
    ]
    for use in uses:
        with pytest.raises(StoreUnreachable, match=r"does not answer at http://127\.0\.0\.1:9"):
            use()


def test_every_request_names_the_owner_of_the_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto accepts any owner; so it is seen what is sent, inside transfers too."""
    sent: dict[str, set[str | None]] = {}

    def note(request: Any, event_name: str, **_: object) -> None:
        owner = request.headers.get("x-amz-expected-bucket-owner")
        operation = event_name.rpartition(".")[2]
        sent.setdefault(operation, set()).add(owner.decode() if isinstance(owner, bytes) else owner)

    def watched(region_name: str | None = None) -> boto3.session.Session:
        session = session_class(region_name=region_name)
        session.events.register("before-send.s3", note)
        return session

    session_class = boto3.session.Session
    monkeypatch.setattr(boto3.session, "Session", watched)
    use_everything(open_store(f"s3://{bucket}/{secrets.token_hex(6)}", {"ELASTIC_BUCKET_OWNER": OWNER}), tmp_path)
    assert set().union(*sent.values()) == {OWNER}
    assert sent.keys() >= {
        "PutObject",
        "GetObject",
        "DeleteObject",
        "ListObjectsV2",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    }
    sent.clear()
    use_everything(open_store(f"s3://{bucket}/{secrets.token_hex(6)}", {}), tmp_path)
    assert set().union(*sent.values()) == {None}


def use_everything(store: Store, directory: Path) -> None:
    etag = store.replace("key", b"2", store.create("key", b"1"))
    store.get_if_changed("key", etag)
    list(store.list(""))
    list(store.prefixes(""))
    (directory / "large").write_bytes(bytes(PART_BYTES + 1))
    store.upload(directory / "large", "large")
    store.download("large", directory / "copy")
    store.delete("large")
    store.delete("key", etag)


def test_only_small_puts_are_ever_conditional(bucket: str, tmp_path: Path) -> None:
    """Several servers get the conditions of multipart uploads wrong."""
    session = boto3.session.Session()
    conditional: set[str] = set()

    def note(request: Any, event_name: str, **_: object) -> None:
        if any(name in request.headers for name in ("If-Match", "If-None-Match")):
            conditional.add(event_name.rpartition(".")[2])

    session.events.register("before-send.s3", note)
    use_everything(connect(bucket, secrets.token_hex(6), session=session), tmp_path)
    assert conditional == {"PutObject", "GetObject", "DeleteObject"}


def test_its_own_endpoint_is_spoken_to_by_path(moto_server: str) -> None:
    """A server of one's own seldom has a host name for each bucket."""
    client = make_client(boto3.session.Session())
    url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "key"})
    assert url.startswith(f"{moto_server}/bucket/key?")


def test_one_server_for_many_processes_ends_with_the_test() -> None:
    with running_moto() as url:
        port = int(url.rpartition(":")[2])
        assert listening(port)
    assert not listening(port)


def listening(port: int) -> bool:
    """Whether anything accepts connections there."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
