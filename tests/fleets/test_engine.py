"""Which Docker engine is meant, and what is said when there is none."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from requests.exceptions import ConnectionError
from urllib3.exceptions import ProtocolError

from orchestrator.cli.checks import Verdict, check_docker
from orchestrator.fleets.engine import (
    EngineError,
    connect,
    host_of,
    is_absence,
    remove_instance,
    unreachable,
    way_to_engine,
)


def test_docker_host_is_meant_before_all() -> None:
    assert host_of({"DOCKER_HOST": "unix:///mine.sock"}) == "unix:///mine.sock"


def test_the_socket_of_the_docker_commands_context_is_meant_else_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert host_of({}) == "unix:///var/run/docker.sock"
    rootless = tmp_path / "contexts" / "meta" / hashlib.sha256(b"rootless").hexdigest()
    rootless.mkdir(parents=True)
    endpoint = {"docker": {"Host": "unix:///run/user/1000/docker.sock", "SkipTLSVerify": False}}
    (rootless / "meta.json").write_text(json.dumps({"Name": "rootless", "Metadata": {}, "Endpoints": endpoint}))
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "rootless"}))
    assert host_of({}) == "unix:///run/user/1000/docker.sock"
    assert way_to_engine({"HOME": "/home/me"}) == {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "gone"}))
    assert host_of({}) == "unix:///var/run/docker.sock"


def test_no_engine_is_one_sentence_that_says_where_and_what_to_do(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/docker.sock"
    with pytest.raises(EngineError) as error:
        connect({"DOCKER_HOST": nowhere})
    assert str(error.value) == f"there is no Docker engine at {nowhere}: install and start one, or set DOCKER_HOST"
    assert error.value.may_pass


def test_an_engine_that_refuses_connections_is_told_from_none() -> None:
    with pytest.raises(EngineError, match=r"no Docker engine answers at tcp://127.0.0.1:1: start it") as error:
        connect({"DOCKER_HOST": "tcp://127.0.0.1:1"})
    assert error.value.may_pass


def test_a_socket_that_may_not_be_used_will_not_be_usable_later() -> None:
    """As the SDK has it: the cause is an argument of an argument. Root may use every socket, so it is made by hand."""
    cause = ProtocolError("Connection aborted.", PermissionError(13, "Permission denied"))
    error = unreachable(ConnectionError(cause), {"DOCKER_HOST": "unix:///docker.sock"})
    assert str(error) == (
        "permission to use the Docker engine at unix:///docker.sock is denied: add this user to the group docker"
    )
    assert not error.may_pass


class InTrouble(BaseHTTPRequestHandler):
    """An engine that greets, and then has a fault of its own."""

    def do_GET(self) -> None:
        greets = self.path == "/version"
        body = json.dumps({"ApiVersion": "1.43"} if greets else {"message": "the database is locked"}).encode()
        self.send_response(200 if greets or self.path.endswith("/_ping") else 500)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def in_trouble() -> Iterator[dict[str, str]]:
    """What leads to such an engine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), InTrouble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"DOCKER_HOST": f"tcp://127.0.0.1:{server.server_port}"}
        server.shutdown()


def test_an_engine_in_trouble_is_as_good_as_away(in_trouble: dict[str, str]) -> None:
    with pytest.raises(EngineError, match=r"cannot be asked: .*the database is locked") as error:
        remove_instance(in_trouble, "/state/instances/store-1/digits-g1")
    assert error.value.may_pass
    finding = check_docker(in_trouble)
    assert (finding.verdict, "the database is locked" in finding.seen) == (Verdict.OK, True)


def test_a_full_disk_is_not_an_engine_that_is_away() -> None:
    assert not is_absence(OSError(28, "No space left on device"))
    assert is_absence(BrokenPipeError()) and is_absence(TimeoutError())


def test_what_is_asked_of_it_never_goes_through_a_proxy(
    in_trouble: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one looked for at each request: the environment may change meanwhile, and the search fail by that."""
    client = connect(in_trouble)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    try:
        assert client.api.version(api_version=False) == {"ApiVersion": "1.43"}
    finally:
        client.close()
