"""What instances cost in the account on this machine: on demand as in the dated table, spot a share of it, by zone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.fleets.protocol import Market
from orchestrator.spec.instance_types import GPU_TYPES

SPOT_SHARE = 0.4
ZONE_STEP = 0.02
"""By how much of that each zone is dearer than the one before, so that there is an order and it is known."""
UNKNOWN_USD_PER_HOUR = 1.0
_ON_DEMAND = {gpu_type.name: gpu_type.usd_per_hour for gpu_type in GPU_TYPES}


@dataclass(frozen=True)
class Prices:
    """Prices that differ from the ordinary ones."""

    on_demand: Mapping[str, float] = field(default_factory=dict)
    """By instance type."""
    spot: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By instance type and zone."""

    def usd_per_hour(self, instance_type: str, zone: str, market: Market) -> float:
        """What an hour costs there."""
        full = self.on_demand.get(instance_type, _ON_DEMAND.get(instance_type, UNKNOWN_USD_PER_HOUR))
        if market == "on_demand":
            return full
        ordinary = round(full * SPOT_SHARE * (1 + ZONE_STEP * (ord(zone[-1:] or "a") - ord("a"))), 4)
        return self.spot.get(instance_type, {}).get(zone, ordinary)
