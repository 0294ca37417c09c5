"""S3 on a loopback port, by moto, in a process of its own: one server for all processes of a test.

moto checks a condition and acts on it without a lock, so two of its threads can both win. The server therefore lets one
request in at a time. With `--ignore-conditions` it drops the conditions of every request, as some S3 servers do.

In a test: `from tests.support.moto_server import moto_server  # noqa: F401` gives the fixture, whose value is the URL;
credentials and the endpoint are then in the environment, for this process and those it starts.
"""

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")


@contextmanager
def running_moto(*, ignore_conditions: bool = False) -> Iterator[str]:
    """Start a server, give its URL, and end it. It also ends by itself when this process dies."""
    command = [sys.executable, "-m", "tests.support.moto_server"]
    if ignore_conditions:
        command.append("--ignore-conditions")
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, f"moto's server ended with exit code {server.wait()} before it was ready"
        yield url
    finally:
        server.kill()
        server.communicate()


def environment(url: str) -> dict[str, str]:
    """What a process needs to use the server, and to use no account of the person who runs the tests."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def make_bucket(name: str) -> None:
    """Make a bucket on the server that the environment names."""
    import boto3

    boto3.client("s3").create_bucket(Bucket=name)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """S3 for the whole session of tests; the environment leads to it."""
    with running_moto() as url, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_REGION", "ELASTIC_BUCKET_OWNER"):
            patch.delenv(name, raising=False)
        for name, value in environment(url).items():
            patch.setenv(name, value)
        yield url


def _serve(ignore_conditions: bool) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    moto = DomainDispatcherApplication(create_backend_app)
    one_at_a_time = threading.RLock()

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # keeps connections, as S3 does

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if ignore_conditions:
            for name in _CONDITIONS:
                environ.pop(name, None)
        with one_at_a_time:
            return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # until whoever started it has gone


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="S3 by moto on a free loopback port, printed when it is ready.")
    parser.add_argument("--ignore-conditions", action="store_true", help="drop If-Match and If-None-Match")
    _serve(parser.parse_args().ignore_conditions)
