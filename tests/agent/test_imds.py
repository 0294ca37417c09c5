"""The metadata service as an instance asks it: token first, renewed in time, nothing through a proxy, no long wait."""

import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest

from orchestrator.agent.imds import ENDPOINT_VARIABLE, TIMEOUT_S, InstanceMetadata, MetadataError
from orchestrator.fleets.ec2.sightings import INSTANCE_TAG
from orchestrator.rehearsal.imds import TOKEN_HEADER, TTL_HEADER, Identity, MetadataServer
from tests.support.clock import Clock

IDENTITY = Identity("i-0abc", "g4dn.xlarge", "us-east-1b", "10.0.3.7", tags={INSTANCE_TAG: "digits-g1-n0-a0"})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[MetadataServer]:
    server = MetadataServer(IDENTITY, monotonic=clock)
    yield server
    server.close()


def metadata(server: MetadataServer, clock: Clock, **environ: str) -> InstanceMetadata:
    return InstanceMetadata({ENDPOINT_VARIABLE: server.endpoint, **environ}, clock, lambda: datetime.now(UTC))


def ask(server: MetadataServer, method: str, path: str, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=5)
    connection.request(method, path, headers=dict(headers))
    status = connection.getresponse().status
    connection.close()
    return status


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def tokens_asked(server: MetadataServer) -> int:
    return sum(method == "PUT" for method, _, _ in server.asked)


def test_it_says_who_it_is(server: MetadataServer, clock: Clock) -> None:
    me = metadata(server, clock)
    found = me.identity()
    assert (found.instance_id, found.instance_type, found.zone) == ("i-0abc", "g4dn.xlarge", "us-east-1b")
    assert found.address == "10.0.3.7"
    assert me.tag(INSTANCE_TAG) == "digits-g1-n0-a0"
    assert me.tag("elastic:job") is None
    assert tokens_asked(server) == 1


def test_there_is_no_notice_until_there_is_one(server: MetadataServer, clock: Clock) -> None:
    me = metadata(server, clock)
    assert me.interruption() is None
    assert not me.rebalance_recommended()
    server.recommend_rebalance()
    at = server.interrupt(within_s=120.0)
    notice = me.interruption()
    assert notice is not None
    assert (notice.action, notice.at) == ("terminate", at.replace(microsecond=0))
    assert 110.0 < notice.seconds <= 120.0
    assert me.rebalance_recommended()


def test_how_long_is_left_is_told_by_the_services_own_clock(server: MetadataServer, clock: Clock) -> None:
    wrong = InstanceMetadata(
        {ENDPOINT_VARIABLE: server.endpoint}, clock, lambda: datetime.now(UTC) + timedelta(hours=1)
    )
    server.interrupt(within_s=120.0)
    notice = wrong.interruption()
    assert notice is not None
    assert 110.0 < notice.seconds <= 120.0


@pytest.mark.parametrize("lasted_s", [0.9 * 21_600, 3 * 21_600.0])
def test_a_token_is_renewed_before_or_after_its_end(server: MetadataServer, clock: Clock, lasted_s: float) -> None:
    me = metadata(server, clock)
    me.identity()
    clock.now_s += lasted_s
    assert me.identity().instance_id == "i-0abc"
    assert tokens_asked(server) == 2
    assert 401 not in [status for _, _, status in server.asked]


def test_a_token_that_is_refused_is_renewed_once(server: MetadataServer, clock: Clock) -> None:
    me = metadata(server, clock)
    me.identity()
    server.forget_tokens()
    assert me.identity().instance_id == "i-0abc"
    assert [status for _, _, status in server.asked] == [200, 200, 401, 200, 200]


def test_nothing_goes_through_a_proxy(server: MetadataServer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, nobody())
    monkeypatch.delenv("no_proxy", raising=False)
    assert metadata(server, clock).identity().instance_id == "i-0abc"


def test_a_service_that_is_not_there_is_said_in_a_sentence(clock: Clock) -> None:
    me = InstanceMetadata({ENDPOINT_VARIABLE: nobody()}, clock, lambda: datetime.now(UTC))
    began_s = time.monotonic()
    with pytest.raises(MetadataError, match=r"does not answer at http://127\.0\.0\.1.* --cloud ec2 is for instances"):
        me.identity()
    assert time.monotonic() - began_s < 2 * TIMEOUT_S + 5


def test_the_stub_refuses_what_ec2_refuses(server: MetadataServer, clock: Clock) -> None:
    path = "/latest/meta-data/instance-id"
    assert ask(server, "GET", path, {}) == 401
    assert ask(server, "GET", path, {TOKEN_HEADER: "made up"}) == 401
    assert ask(server, "PUT", "/latest/api/token", {}) == 400
    assert ask(server, "PUT", "/latest/api/token", {TTL_HEADER: "21601"}) == 400
    assert ask(server, "PUT", "/latest/api/token", {TTL_HEADER: "60", "X-Forwarded-For": "10.0.0.1"}) == 403


@pytest.mark.parametrize(
    ("zone", "region"),
    [("us-east-1a", "us-east-1"), ("us-gov-west-1b", "us-gov-west-1"), ("us-west-2-lax-1a", "us-west-2")],
)
def test_the_stubs_region_is_its_zones(zone: str, region: str) -> None:
    assert Identity("i-0", "g5.xlarge", zone).region == region
