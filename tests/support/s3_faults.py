"""A store on S3 whose client takes faults, put in at botocore's events so that its real error handling runs."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3.session
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError

from orchestrator.store.s3 import S3Store, Settings, make_client

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Bench:
    """A store in the bucket that a URL names; its pauses are noted instead of waited, and so are its requests."""

    def __init__(self, url: str, settings: Settings | None = None) -> None:
        self.bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.client: S3Client = make_client(boto3.session.Session(), settings)
        self.pauses: list[float] = []
        self.store = S3Store(self.client, self.bucket, prefix, sleep=self.pauses.append, jitter=lambda: 1.0)
        self.requests: list[str] = []
        self.client.meta.events.register("before-send.s3", self._note)

    def _note(self, event_name: str, **_: object) -> None:
        self.requests.append(event_name.rpartition(".")[2])

    def answer(self, operation: str, *codes: tuple[int, str], after: int = 0) -> None:
        """The next requests of this kind, after so many, get these answers instead of being sent."""
        passing, left = [None] * after, list(codes)

        def reply(request: Any, **_: object) -> AWSResponse | None:
            if passing:
                return passing.pop()
            return answered(request.url, *left.pop(0)) if left else None

        self.at(f"before-send.s3.{operation}", reply)

    def fail(self, event: str, *errors: Exception, after: int = 0) -> None:
        """The next times that this happens, after so many, an error is raised."""
        passing, left = [None] * after, list(errors)

        def strike(**_: object) -> None:
            if passing:
                passing.pop()
            elif left:
                raise left.pop(0)

        self.at(event, strike)

    def at(self, event: str, handler: Callable[..., Any]) -> None:
        """Call this at an event of botocore's."""
        self.client.meta.events.register(event, handler)


class _Raw(io.BytesIO):
    """The body of an answer, as urllib3 would give it."""

    def stream(self, **_: object) -> Any:
        yield self.read()


def answered(url: str, status: int, code: str) -> AWSResponse:
    """S3's answer with an error code."""
    return answered_with(url, status, f"<Error><Code>{code}</Code><Message>said the test</Message></Error>".encode())


def answered_with(url: str, status: int, body: bytes) -> AWSResponse:
    """An answer of any bytes."""
    return AWSResponse(url, status, HTTPHeaders(), _Raw(body))


class _Breaking(_Raw):
    """The body of an answer whose end never comes."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, *_: object) -> bytes:
        raise self.error


def breaking_off(url: str, status: int, error: Exception) -> AWSResponse:
    """An answer during whose body this happens."""
    return AWSResponse(url, status, HTTPHeaders.from_dict({"ETag": '"etag"'}), _Breaking(error))


def timed_out() -> ReadTimeoutError:
    """The request was sent, and no answer came."""
    return ReadTimeoutError(endpoint_url="http://test")
