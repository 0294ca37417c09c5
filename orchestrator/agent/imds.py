"""What EC2 tells an instance of itself: who it is, and that it will be taken away. Version 2 of the metadata service.

A session token comes first and is renewed before it ends, or when it is refused. Nothing of it goes through a proxy,
and nothing waits for long: the service is on the machine's own link and answers within milliseconds, or not at all.
"""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from orchestrator.errors import ElasticError

ENDPOINT = "http://169.254.169.254"
ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
TOKEN_LASTS_S = 21_600
RENEW_AFTER = 0.8
"""Of a token's life."""
TIMEOUT_S = 2.0

_TOKEN_PATH = "/latest/api/token"
_DOCUMENT = "/latest/dynamic/instance-identity/document"
_ACTION = "/latest/meta-data/spot/instance-action"
_REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


class MetadataError(ElasticError):
    """The metadata service does not answer, or not as it is documented to."""


@dataclass(frozen=True)
class Identity:
    """What this instance is, in EC2's words."""

    instance_id: str
    instance_type: str
    zone: str
    address: str
    """Private, IPv4: where the other instances of a generation reach it."""


@dataclass(frozen=True)
class Interruption:
    """EC2 takes the instance back."""

    action: str
    """terminate, stop or hibernate."""
    at: datetime
    seconds: float
    """From when it was read until then, by EC2's own clock."""


@dataclass(frozen=True)
class _Answer:
    body: str
    at: datetime
    """When it was given, by the service's clock, if it says so."""


class InstanceMetadata:
    """Asks one instance's metadata service. To be used by one thread at a time."""

    def __init__(self, environ: Mapping[str, str], monotonic: Callable[[], float], now: Callable[[], datetime]) -> None:
        self.endpoint = (environ.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
        self._monotonic, self._now = monotonic, now
        self._token = ""
        self._renew_at_s = 0.0

    def identity(self) -> Identity:
        """Who this is. Raises MetadataError."""
        document = self._json(_DOCUMENT)
        if document is None:
            raise MetadataError(f"{self.endpoint} has no identity document: --cloud ec2 is for instances of EC2")
        try:
            return Identity(
                instance_id=str(document[0]["instanceId"]),
                instance_type=str(document[0]["instanceType"]),
                zone=str(document[0]["availabilityZone"]),
                address=str(document[0]["privateIp"]),
            )
        except KeyError as error:
            raise MetadataError(f"{self.endpoint}{_DOCUMENT} says nothing of {error}") from None

    def tag(self, name: str) -> str | None:
        """One of the instance's tags; None if it has none of that name, or does not show them in its metadata."""
        answer = self._get(f"/latest/meta-data/tags/instance/{name}")
        return None if answer is None else answer.body

    def interruption(self) -> Interruption | None:
        """Whether the instance is to be taken back. Raises MetadataError."""
        found = self._json(_ACTION)
        if found is None:
            return None
        notice, read_at = found
        try:
            at = _moment(notice["time"])
        except (KeyError, ValueError):  # that it ends matters more than when
            return Interruption(str(notice.get("action", "terminate")), read_at, 0.0)
        return Interruption(str(notice.get("action", "terminate")), at, (at - read_at).total_seconds())

    def rebalance_recommended(self) -> bool:
        """Whether EC2 sees the instance at risk. Raises MetadataError."""
        return self._get(_REBALANCE) is not None

    def _json(self, path: str) -> tuple[dict[str, Any], datetime] | None:
        answer = self._get(path)
        if answer is None:
            return None
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise MetadataError(f"{self.endpoint}{path} is not the JSON that it should be")
        return content, answer.at

    def _get(self, path: str) -> _Answer | None:
        """What lies under a path, or None if there is nothing."""
        fresh = self._monotonic() >= self._renew_at_s
        if fresh:
            self._renew()
        status, answer = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if status == http.HTTPStatus.UNAUTHORIZED and not fresh:  # it has ended before its time
            self._renew()
            status, answer = self._ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        if status != http.HTTPStatus.OK:
            raise MetadataError(f"{self.endpoint}{path} answers {status}")
        return answer

    def _renew(self) -> None:
        status, answer = self._ask("PUT", _TOKEN_PATH, {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_LASTS_S)})
        if status != http.HTTPStatus.OK:
            raise MetadataError(f"{self.endpoint} gives no token, but answers {status}")
        self._token = answer.body.strip()
        self._renew_at_s = self._monotonic() + RENEW_AFTER * TOKEN_LASTS_S

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, _Answer]:
        """One request on a connection of its own, straight to the service, whatever proxies the environment names."""
        place = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, place.path + path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
            said = response.headers.get("Date")
        except (OSError, http.client.HTTPException) as error:
            raise MetadataError(
                f"the instance metadata service does not answer at {self.endpoint} ({type(error).__name__}: {error}): "
                "--cloud ec2 is for instances of EC2, with IMDSv2 switched on"
            ) from error
        finally:
            connection.close()
        try:
            return response.status, _Answer(body, parsedate_to_datetime(said or "").astimezone(UTC))
        except ValueError:
            return response.status, _Answer(body, self._now())


def _moment(text: str) -> datetime:
    """A time as EC2 writes it: 2017-09-18T08:22:00Z."""
    return datetime.fromisoformat(text).astimezone(UTC)
