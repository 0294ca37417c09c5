"""Requests to S3, repeated until the answer is certain.

botocore sends each once, and they are repeated here, because only here it is known what a second answer means after a
first that was lost.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from orchestrator.store.protocol import Conflict, Missing, NotAllowed, ReplyLost, StoreError, StoreUnreachable
from orchestrator.store.s3_answers import (
    Answer,
    Failure,
    classify,
    code_of,
    explain,
    failure_of,
    not_s3,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

TRIES = 6
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0

T = TypeVar("T")


class NotModified(Exception):
    """The answer 304."""


class Requests:
    """What all requests to one bucket have in common. Safe to use from several threads."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        *,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`client` must send each request a single time; `tries` is how often it is sent at most.

        `jitter` draws from [0, 1): which share of a pause is waited, so that clients do not come back all at once.
        """
        self.client = client
        self.bucket = bucket
        self._tries = tries
        self._sleep = sleep
        self._jitter = jitter

    def send(self, key: str, request: Callable[[], T], *, writes: bool = False) -> T:
        """Send until the answer is certain, a bounded number of times with growing, random pauses.

        Raises `Missing`, `Conflict`, `NotModified` and `StoreError`. A conflict or absence that follows a lost reply
        may be one's own doing, hence with `writes` `ReplyLost` and not `Conflict`. 409 to the end is no conflict: it
        says that others write, not that any of them has written.
        """
        doubtful = False
        failure: Failure
        for attempt in range(self._tries):
            if attempt:
                self._sleep(self._jitter() * min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
            try:
                return request()
            except Exception as error:
                found = failure_of(error)
                if found is None:
                    raise
                failure = found
            match classify(failure):
                case Answer.LATER | Answer.BUSY:
                    continue
                case Answer.UNKNOWN:
                    doubtful = writes
                case Answer.UNCHANGED:
                    raise NotModified from failure
                case Answer.LOST if not doubtful:
                    raise Conflict(f"{key} is not what it was") from failure
                case Answer.ABSENT if not doubtful:
                    raise Missing(key) from failure
                case _:
                    break
        why = self._explain(failure, key)
        if doubtful:
            raise ReplyLost(f"Whether {key} was written is not known, a reply was lost. {why}") from failure
        if classify(failure) is Answer.BUSY:
            raise StoreError(
                f"{key} in s3://{self.bucket} was not written in {self._tries} tries: the service answers 409, another "
                "write of it is under way. Try again."
            ) from failure
        raise why from failure

    def expect(self, key: str, answer: Mapping[str, Any], *names: str) -> None:
        """Raise `StoreUnreachable` unless the answer has what S3's has: a proxy's page may come with status 200."""
        if not all(name in answer for name in names):
            raise StoreUnreachable(f"{key} in s3://{self.bucket}: {not_s3(self.client.meta.endpoint_url)}")

    def head(self, key: str, name: str) -> "HeadObjectOutputTypeDef":
        """What HeadObject tells of an object. Raises `Missing` and `StoreError`.

        A refusal of it has no words: 404 is a missing object or a missing bucket, 400 or 403 may be credentials that
        have expired or a clock that is wrong. A listing, refused for the same reason, says which.
        """
        try:
            return self.send(key, lambda: self.client.head_object(Bucket=self.bucket, Key=name))
        except (Missing, StoreError) as error:
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__).isdigit():
                with suppress(NotAllowed):  # that of HeadObject says what both need
                    self.send("", lambda: self.client.list_objects_v2(Bucket=self.bucket, Prefix=name, MaxKeys=1))
            raise

    def _explain(self, failure: Failure, key: str) -> StoreError:
        return explain(failure, key, self.bucket, self.client.meta.endpoint_url)
