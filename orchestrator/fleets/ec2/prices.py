"""What instances cost: spot by zone and on-demand, asked of AWS; where it does not tell, a dated table of a region."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.fleets.ec2.client import Clients
from orchestrator.fleets.ec2.remembered import Makeshift, Remembered
from orchestrator.fleets.protocol import FleetError
from orchestrator.spec.instance_types import PRICES_AS_OF, find_gpu_type

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef

TABLE_REGION = "us-east-1"
"""Where the prices of the table are of: in most other regions they are higher."""
SPOT_KEPT_S = 300.0
ON_DEMAND_KEPT_S = 24 * 3600.0
_HISTORY = timedelta(hours=6)
"""The history begins with the price that was in force then; so much leaves room for a clock that is wrong."""


class Prices:
    """The prices of one region. For several threads."""

    def __init__(
        self,
        clients: Clients,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._clients, self._now, self._log = clients, now, log
        self._spot: Remembered[Mapping[str, float]] = Remembered(SPOT_KEPT_S, monotonic)
        self._on_demand: Remembered[float | None] = Remembered(ON_DEMAND_KEPT_S, monotonic)
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def spot(self, instance_type: str) -> Mapping[str, float]:
        """Dollars an hour by zone; empty where AWS does not tell."""
        return self._spot.get(instance_type, lambda: self._ask_spot(instance_type))

    def on_demand(self, instance_type: str) -> float | None:
        """Dollars an hour; None: neither AWS nor the table has the type. Raises FleetError where AWS does not answer.

        What AWS has refused to tell is asked again soon: it costs a job its life where the type is in no table.
        """
        return self._on_demand.get(instance_type, lambda: self._ask_on_demand(instance_type))

    def _ask_spot(self, instance_type: str) -> Mapping[str, float] | Makeshift[Mapping[str, float]]:
        from orchestrator.fleets.ec2.errors import FAILURES, why_untold  # brings botocore

        pages = self._clients.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[instance_type],  # type: ignore[list-item] # types are newer than the stubs
            ProductDescriptions=["Linux/UNIX"],
            StartTime=self._now() - _HISTORY,
        )
        try:
            return newest_by_zone(entry for page in pages for entry in page["SpotPriceHistory"])
        except (*FAILURES, LookupError, ValueError) as error:
            why = why_untold(error, "ec2:DescribeSpotPriceHistory")
            self._say_once(
                f"spot {instance_type}",
                f"the spot price of {instance_type} cannot be asked ({why}): it is taken to be the on-demand price",
            )
            return Makeshift({})

    def _ask_on_demand(self, instance_type: str) -> float | None | Makeshift[float | None]:
        from orchestrator.fleets.ec2.errors import FAILURES, why_untold  # brings botocore

        region = self._clients.region
        known = find_gpu_type(instance_type) if region == TABLE_REGION else None
        try:
            answer = self._clients.pricing.get_products(
                ServiceCode="AmazonEC2",
                Filters=[
                    {"Type": "TERM_MATCH", "Field": field, "Value": value}
                    for field, value in (
                        ("instanceType", instance_type),
                        ("regionCode", region),
                        ("operatingSystem", "Linux"),
                        ("preInstalledSw", "NA"),
                        ("tenancy", "Shared"),
                        ("capacitystatus", "Used"),
                    )
                ],
            )
            price = read_on_demand(answer["PriceList"])
        except (*FAILURES, LookupError, ValueError) as error:
            why = why_untold(error, "pricing:GetProducts")
            if known is None:
                raise FleetError(
                    f"The price of {instance_type} in {region} cannot be asked ({why}), so no budget can be kept."
                ) from error
            self._say_table(instance_type, known.usd_per_hour, why)
            return Makeshift(known.usd_per_hour)
        if price is None and known is not None:
            self._say_table(instance_type, known.usd_per_hour, "the price list does not have it")
            return known.usd_per_hour
        return price

    def _say_table(self, instance_type: str, usd_per_hour: float, why: str) -> None:
        self._say_once(
            instance_type,
            f"the price of {instance_type} in {TABLE_REGION} cannot be asked ({why}): "
            f"${usd_per_hour:g} of {PRICES_AS_OF} is used",
        )

    def _say_once(self, what: str, message: str) -> None:
        with self._lock:
            if what in self._said:
                return
            self._said.add(what)
        self._log(message)


def newest_by_zone(history: "Iterable[SpotPriceTypeDef]") -> dict[str, float]:
    """The price in force in each zone, of a history in any order."""
    newest: dict[str, tuple[datetime, float]] = {}
    for entry in history:
        zone, since, price = entry["AvailabilityZone"], entry["Timestamp"], float(entry["SpotPrice"])
        if zone not in newest or since > newest[zone][0]:
            newest[zone] = since, price
    return {zone: price for zone, (_since, price) in newest.items()}


def read_on_demand(products: Iterable[str]) -> float | None:
    """The price of an hour in what GetProducts answers; None: there is none in it."""
    prices = [
        float(dimension["pricePerUnit"]["USD"])
        for product in products
        for term in _values(json.loads(product), "terms", "OnDemand")
        for dimension in _values(term, "priceDimensions")
        if dimension.get("unit") == "Hrs" and "USD" in dimension.get("pricePerUnit", {})
    ]
    return max((price for price in prices if price > 0), default=None)


def _values(tree: Any, *path: str) -> list[Any]:
    """The values of a mapping within mappings; none where the path leads nowhere."""
    for name in path:
        tree = tree.get(name, {})
    return list(tree.values())
