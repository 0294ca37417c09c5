"""Connections to S3 that break: in a body, in TLS, or by saying nothing."""

import os
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import SSLError
from urllib3.exceptions import DecodeError, ProtocolError
from urllib3.exceptions import SSLError as RawSSLError
from urllib3.util.ssl_match_hostname import CertificateError

from orchestrator.store import Conflict, ReplyLost, StoreUnreachable, open_store
from orchestrator.store.s3_requests import TRIES
from tests.support.s3_faults import Bench, answered_with, breaking_off


@pytest.fixture
def bench(bucket: str) -> Bench:
    """A store to put faults in."""
    return Bench(f"s3://{bucket}/{secrets.token_hex(6)}")


@pytest.mark.parametrize("error", [RawSSLError("bad record mac"), DecodeError("no chunk"), ProtocolError("reset")])
@pytest.mark.parametrize("status", [200, 404])
def test_a_body_that_breaks_off_is_read_again(bench: Bench, error: Exception, status: int) -> None:
    """Whatever the answer is, and whatever breaks it."""
    bench.store.put("key", b"1")

    def broken(request: Any, **_: object) -> Any:
        bench.client.meta.events.unregister("before-send.s3.GetObject", broken)
        return breaking_off(request.url, status, error)

    bench.at("before-send.s3.GetObject", broken)
    found = bench.store.get("key")
    assert found is not None and found.body == b"1"


@pytest.mark.parametrize("operation", ["GetObject", "ListObjectsV2", "PutObject"])
def test_bodies_that_always_break_off_are_said(bench: Bench, operation: str) -> None:
    uses: dict[str, Callable[[], object]] = {
        "GetObject": lambda: bench.store.get("key"),
        "ListObjectsV2": lambda: list(bench.store.list("")),
        "PutObject": lambda: bench.store.put("key", b"1"),
    }
    bench.at(
        f"before-send.s3.{operation}", lambda request, **_: breaking_off(request.url, 200, RawSSLError("bad record"))
    )
    with pytest.raises(ReplyLost if operation == "PutObject" else StoreUnreachable, match="bad record"):
        uses[operation]()
    assert bench.requests == [operation] * TRIES


def tls_error(cause: Exception) -> SSLError:
    """As botocore raises it: around urllib3's, around Python's."""
    return SSLError(endpoint_url="https://test", error=RawSSLError(cause))


def test_tls_that_breaks_after_a_write_leaves_it_in_doubt(bench: Bench) -> None:
    """It was carried out, and the answer could not be read: the second then comes back as 412."""
    bench.fail("after-call.s3.PutObject", tls_error(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")))
    with pytest.raises(ReplyLost, match="key was written is not known"):
        bench.store.create("key", b"1")
    assert bench.requests == ["PutObject"] * 2


@pytest.mark.parametrize("cause", [ssl.SSLCertVerificationError(1, "expired"), CertificateError("another's name")])
def test_a_certificate_that_is_refused_is_said_at_once(bench: Bench, cause: Exception) -> None:
    bench.fail("before-send.s3.PutObject", tls_error(cause), tls_error(cause))
    with pytest.raises(StoreUnreachable, match=str(cause.args[-1])) as caught:
        bench.store.create("key", b"1")
    assert not isinstance(caught.value, ReplyLost), "nothing was sent"
    assert bench.pauses == [], "a certificate does not become right by trying again"


def test_who_is_in_haste_asks_once_and_waits_seconds(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no time to wait for a store has a use for it again soon."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = open_store(f"s3://{bucket}/prefix", os.environ, hasty=True)
        started_s = time.monotonic()
        with pytest.raises(StoreUnreachable, match="does not answer"):
            store.get("key")
        assert time.monotonic() - started_s < 10, "others wait 15 s, six times"
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


UPSTREAM_RESET = b"upstream connect error or disconnect/reset before headers. reset reason: connection termination"


def test_a_503_of_a_proxy_leaves_a_write_in_doubt(bench: Bench) -> None:
    """It was carried out, and the proxy lost the answer: the second then comes back as 412."""
    other, left = Bench(bench.store.url), [UPSTREAM_RESET]

    def carried_out(request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        if not left:
            return None
        other.store.put("key", b"1")
        return answered_with(request.url, 503, left.pop())

    bench.at("before-send.s3.PutObject", carried_out)
    with pytest.raises(ReplyLost, match="key was written is not known"):
        bench.store.create("key", b"1")
    assert bench.requests == ["PutObject"] * 2


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable"])
def test_a_503_of_s3_itself_leaves_nothing_in_doubt(bench: Bench, code: str) -> None:
    bench.store.put("key", b"another's")
    bench.answer("PutObject", (503, code))
    with pytest.raises(Conflict):
        bench.store.create("key", b"1")


def test_a_503_without_a_body_is_asked_again(bench: Bench, tmp_path: Path) -> None:
    """An answer to HEAD never has one."""
    bench.store.put("key", b"1")
    left = [b"", b""]
    bench.at(
        "before-send.s3.HeadObject",
        lambda request, **_: answered_with(request.url, 503, left.pop()) if left else None,
    )
    bench.store.download("key", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"1"
    assert bench.requests == ["PutObject", *["HeadObject"] * 3, "GetObject"]
