"""What DescribeInstances' answers mean. Pure: the time is that of the answer, by AWS's own clock."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from orchestrator.fleets.protocol import InstanceState, Market, Sighting

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

STORE_TAG = "elastic:store"
JOB_TAG = "elastic:job"
INSTANCE_TAG = "elastic:instance"
GENERATION_TAG = "elastic:generation"

LAG_S = 300.0
"""AWS documents that what was done may be invisible to DescribeInstances for up to about five minutes."""

ALIVE = ("pending", "running", "shutting-down", "stopping", "stopped")
"""All that may cost money, the volume of a stopped instance included."""

_ENDING = ("shutting-down", "terminated")
SHUTDOWN_TAKES = timedelta(seconds=90)
"""So long after it was told to end an instance may work still: its agent has 60 s, and a container some more. EC2 may
call it shutting-down for many minutes longer, those with GPUs above all."""

SPOT_RECLAIM = "Server.SpotInstanceTermination"
_WHY = {
    SPOT_RECLAIM: "AWS took the spot instance back",
    "Server.SpotInstanceShutdown": "AWS took the spot instance back",
    "Client.InstanceInitiatedShutdown": "the instance shut itself down",
    "Client.UserInitiatedShutdown": "it was told to end",
    "Server.InsufficientInstanceCapacity": "AWS had no capacity for it after all",
    "Server.InternalError": "AWS had a fault on its machine",
    "Client.VolumeLimitExceeded": "the account may have no more EBS volumes",
    "Client.InvalidSnapshot.NotFound": "the AMI's snapshot is gone",
    "Client.InternalError": "its volume could not be encrypted or attached: check the rights on the KMS key",
}
_ENDED = re.compile(r"\((\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) (?:GMT|UTC)\)")


@dataclass(frozen=True)
class Seen:
    """One of EC2's instances, as one answer shows it."""

    instance_id: str
    instance: str
    """The name that it was launched under; empty: its tags do not tell."""
    job: str
    token: str
    state: str
    """In EC2's words."""
    instance_type: str
    zone: str
    market: Market
    launched_at: datetime
    at: datetime | None
    """When the answer was given, by AWS's clock."""
    ended_at: datetime | None = None
    reason: str = ""
    """EC2's code for why it ended."""
    message: str = field(default="", compare=False)

    @property
    def is_ending(self) -> bool:
        """Whether it comes to its end, or has: it never comes back, and AWS takes nothing for it any more."""
        return self.state in _ENDING

    @property
    def was_reclaimed(self) -> bool:
        """Whether AWS took a spot instance back."""
        return _WHY.get(self.reason) == _WHY[SPOT_RECLAIM]

    def sighting(self, ending_since: datetime | None = None) -> Sighting:
        """What it is for a controller; `ending_since`: since when at the latest, where EC2 does not say so."""
        if not self.is_ending:
            state = InstanceState.STARTING if self.state == "pending" else InstanceState.RUNNING
            return Sighting(state, lived_s=self._lived_s(self.at))
        until = self.ended_at or ending_since
        if not self._is_gone(until):
            return Sighting(InstanceState.RUNNING, lived_s=self._lived_s(until or self.at))
        why = _WHY.get(self.reason) or self.message or self.reason
        return Sighting(InstanceState.GONE, lived_s=self._lived_s(until), why=why)

    def _is_gone(self, until: datetime | None) -> bool:
        """Whether nothing of it works any more; its workers may still write for a while after it was told to end."""
        if self.state == "terminated":
            return True
        return until is not None and self.at is not None and self.at - until > SHUTDOWN_TAKES

    def _lived_s(self, until: datetime | None) -> float | None:
        return None if until is None else max(0.0, (until - self.launched_at).total_seconds())


def read_page(page: Mapping[str, Any]) -> list[Seen]:
    """The instances in one page of DescribeInstances."""
    at = answered_at(page)
    return [_read(found, at) for reservation in page["Reservations"] for found in reservation["Instances"]]


def answered_at(answer: Mapping[str, Any]) -> datetime | None:
    """When AWS gave an answer, by its Date header; None: it does not say."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


def _read(found: "InstanceTypeDef", at: datetime | None) -> Seen:
    tags = {tag.get("Key", ""): tag.get("Value", "") for tag in found.get("Tags", [])}
    reason = found.get("StateReason", {})
    ended = _ENDED.search(found.get("StateTransitionReason", ""))
    return Seen(
        instance_id=found["InstanceId"],
        instance=tags.get(INSTANCE_TAG, ""),
        job=tags.get(JOB_TAG, ""),
        token=found.get("ClientToken", ""),
        state=found["State"]["Name"],
        instance_type=found["InstanceType"],
        zone=found.get("Placement", {}).get("AvailabilityZone", ""),
        market="spot" if found.get("InstanceLifecycle") == "spot" else "on_demand",
        launched_at=found["LaunchTime"],
        at=at,
        ended_at=datetime.strptime(ended[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) if ended else None,
        reason=reason.get("Code", ""),
        message=reason.get("Message", ""),
    )


def by_name(seen: Iterable[Seen], names: Mapping[str, str]) -> dict[str, list[Seen]]:
    """The instances of each name, first the one that counts: who lives before who ends, and of these the oldest.

    `names`: those that are asked for, by token. An instance is known by its tag or, where somebody took that away, by
    the token of its launch, which nobody can change.
    """
    found: dict[str, dict[str, Seen]] = {}
    for one in seen:
        name = names.get(one.token) or (one.instance if one.instance in names.values() else "")
        if name:
            found.setdefault(name, {})[one.instance_id] = one
    order = {name: list(of_name.values()) for name, of_name in found.items()}
    for of_name in order.values():
        of_name.sort(key=lambda one: (one.is_ending, one.launched_at, one.instance_id))
    return order


def superfluous(of_name: Iterable[Seen]) -> list[str]:
    """Ids of all but the first of a name that are not ended yet: doing it twice is doing it once."""
    return [one.instance_id for one in list(of_name)[1:] if not one.is_ending]
