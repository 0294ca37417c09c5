"""The instance metadata service of one instance, on loopback: version 2 alone, as launched instances require it.

A session token first (PUT), then answers to whoever shows it. What it says can be changed while it runs: an
interruption is announced, credentials are renewed, tokens lose their validity.
"""

import json
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST_TOKEN_S = 21_600
CREDENTIALS_LAST_S = 6 * 3600.0
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
ROLE = "elastic-instance"


@dataclass(frozen=True)
class Identity:
    """What an instance is."""

    instance_id: str
    instance_type: str
    zone: str
    private_address: str = "127.0.0.1"
    account: str = "123456789012"
    image: str = "ami-00000000"
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def region(self) -> str:
        """Of the zone: us-east-1 of us-east-1a, also of a local zone such as us-west-2-lax-1a."""
        found = re.match(r"[a-z]+(-[a-z]+)+-\d+", self.zone)
        return found.group() if found else self.zone


@dataclass(frozen=True)
class Credentials:
    """Of the instance's role."""

    access_key: str
    secret_key: str
    session_token: str


class MetadataServer:
    """Answers one instance's questions until it is closed."""

    def __init__(
        self,
        identity: Identity,
        credentials: Callable[[], Credentials] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.identity = identity
        self.asked: list[tuple[str, str, int]] = []
        """Every request: method, path and status."""
        self._credentials = credentials
        self._monotonic, self._now = monotonic, now
        self._interruption: dict[str, str] | None = None
        self._rebalance: dict[str, str] | None = None
        self._tokens: dict[str, float] = {}
        self._server = _Quiet(("127.0.0.1", 0), _handler_for(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="imds", daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """For AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- what happens to the instance ---------------------------------------------------------------------------------

    def interrupt(self, within_s: float = 120.0, action: str = "terminate") -> datetime:
        """Announce that the instance is taken back; returns when."""
        at = self._now() + timedelta(seconds=within_s)
        self._interruption = {"action": action, "time": _stamp(at)}
        return at

    def recommend_rebalance(self) -> None:
        """Say that the instance is at risk."""
        self._rebalance = {"noticeTime": _stamp(self._now())}

    def forget_tokens(self) -> None:
        """No token that was given out holds any more."""
        self._tokens.clear()

    # --- answers ------------------------------------------------------------------------------------------------------

    def put_token(self, ttl: str | None) -> tuple[HTTPStatus, str]:
        """A new session token."""
        if ttl is None or not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TOKEN_S:
            return HTTPStatus.BAD_REQUEST, ""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = self._monotonic() + int(ttl)
        return HTTPStatus.OK, token

    def get(self, path: str, token: str | None) -> tuple[HTTPStatus, str]:
        """What lies under a path, for who has a token."""
        if self._tokens.get(token or "", 0.0) <= self._monotonic():
            return HTTPStatus.UNAUTHORIZED, ""
        found = self._items().get(path.rstrip("/"))
        return (HTTPStatus.NOT_FOUND, "") if found is None else (HTTPStatus.OK, found)

    def _items(self) -> dict[str, str]:
        me, data = self.identity, "/latest/meta-data"
        items = {
            f"{data}/instance-id": me.instance_id,
            f"{data}/instance-type": me.instance_type,
            f"{data}/ami-id": me.image,
            f"{data}/local-ipv4": me.private_address,
            f"{data}/placement/availability-zone": me.zone,
            f"{data}/placement/region": me.region,
            "/latest/dynamic/instance-identity/document": json.dumps(self._document(), indent=2),
        }
        items |= {f"{data}/tags/instance/{name}": value for name, value in me.tags.items()}
        if me.tags:
            items[f"{data}/tags/instance"] = "\n".join(me.tags)
        if self._interruption is not None:
            items[f"{data}/spot/instance-action"] = json.dumps(self._interruption)
            items[f"{data}/spot/termination-time"] = self._interruption["time"]
        if self._rebalance is not None:
            items[f"{data}/events/recommendations/rebalance"] = json.dumps(self._rebalance)
        if self._credentials is not None:
            items[f"{data}/iam/security-credentials"] = ROLE
            items[f"{data}/iam/security-credentials/{ROLE}"] = self._credentials_document(self._credentials())
        return items

    def _document(self) -> dict[str, str]:
        me = self.identity
        return {
            "accountId": me.account,
            "architecture": "x86_64",
            "availabilityZone": me.zone,
            "imageId": me.image,
            "instanceId": me.instance_id,
            "instanceType": me.instance_type,
            "privateIp": me.private_address,
            "region": me.region,
            "version": "2017-09-30",
        }

    def _credentials_document(self, credentials: Credentials) -> str:
        now = self._now()
        return json.dumps(
            {
                "Code": "Success",
                "LastUpdated": _stamp(now),
                "Type": "AWS-HMAC",
                "AccessKeyId": credentials.access_key,
                "SecretAccessKey": credentials.secret_key,
                "Token": credentials.session_token,
                "Expiration": _stamp(now + timedelta(seconds=CREDENTIALS_LAST_S)),
            }
        )


@contextmanager
def metadata_server(
    identity: Identity, credentials: Callable[[], Credentials] | None = None
) -> Iterator[MetadataServer]:
    """The service of one instance while it is entered."""
    server = MetadataServer(identity, credentials)
    try:
        yield server
    finally:
        server.close()


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


class _Quiet(ThreadingHTTPServer):
    """Says nothing when whoever asked is gone before the answer, as who was killed is."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Only what is no such thing is told."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed wants a socket


def _handler_for(server: MetadataServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One connection."""

        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            """A token, under its one path and never through a proxy."""
            ttl = self.headers.get(TTL_HEADER)
            if self.headers.get("X-Forwarded-For") is not None:
                self._answer(HTTPStatus.FORBIDDEN, "", {})
            elif self.path != "/latest/api/token":
                self._answer(HTTPStatus.NOT_FOUND, "", {})
            else:
                status, token = server.put_token(ttl)
                self._answer(status, token, {TTL_HEADER: ttl or ""} if token else {})

        def do_GET(self) -> None:
            """Anything else."""
            self._answer(*server.get(self.path, self.headers.get(TOKEN_HEADER)), {})

        def _answer(self, status: HTTPStatus, body: str, headers: Mapping[str, str]) -> None:
            server.asked.append((self.command, self.path, int(status)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: it is asked every few seconds."""

    return Handler
