"""When the account on this machine refuses a request, and in which of AWS's words."""

from collections.abc import Collection
from dataclasses import dataclass, field

from orchestrator.fleets.protocol import Market


@dataclass(frozen=True)
class Refusal:
    """An error as EC2 answers it."""

    status: int
    code: str
    message: str


THROTTLED = Refusal(503, "RequestLimitExceeded", "Request limit exceeded.")
CHANGED = Refusal(
    400,
    "IdempotentParameterMismatch",
    "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
)
_NO_SPOT_QUOTA = Refusal(400, "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
_NO_QUOTA = Refusal(
    400,
    "VcpuLimitExceeded",
    "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that the "
    "specified instance type belongs to.",
)


@dataclass(frozen=True)
class Shortages:
    """What the account has none of now. Set anew while it runs."""

    capacity: Collection[str] = field(default_factory=frozenset)
    """Zones, instance types, or both as `TYPE@ZONE`, of which there is no instance to be had."""
    quota: Collection[Market] = field(default_factory=frozenset)
    """Markets in which the account may start nothing."""
    throttled: bool = False
    """Whether every other request to EC2 or so is one too many."""

    def refusal(self, instance_type: str, zone: str, market: Market) -> Refusal | None:
        """Why such an instance cannot be started now, or None."""
        if market in self.quota:
            return _NO_SPOT_QUOTA if market == "spot" else _NO_QUOTA
        if {zone, instance_type, f"{instance_type}@{zone}"} & set(self.capacity):
            return Refusal(
                500,
                "InsufficientInstanceCapacity",
                f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
                f"({zone}). Our system will be working on provisioning additional capacity.",
            )
        return None
