"""What instances cost: spot by zone and on-demand, asked of AWS; where it does not tell, the dated table."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.fleets.ec2.client import Clients
from orchestrator.fleets.ec2.remembered import Remembered
from orchestrator.spec.instance_types import PRICES_AS_OF, find_gpu_type

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import SpotPriceTypeDef

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
        """Dollars an hour; None: neither AWS nor the table tells."""
        return self._on_demand.get(instance_type, lambda: self._ask_on_demand(instance_type))

    def _ask_spot(self, instance_type: str) -> Mapping[str, float]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._clients.ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[instance_type],  # type: ignore[list-item] # types are newer than the stubs
            ProductDescriptions=["Linux/UNIX"],
            StartTime=self._now() - _HISTORY,
        )
        try:
            return newest_by_zone(entry for page in pages for entry in page["SpotPriceHistory"])
        except (ClientError, BotoCoreError) as error:
            self._say_once(
                f"spot {instance_type}",
                f"the spot price of {instance_type} cannot be asked ({error}): it is taken to be the on-demand price; "
                "the right is ec2:DescribeSpotPriceHistory",
            )
            return {}

    def _ask_on_demand(self, instance_type: str) -> float | None:
        from botocore.exceptions import BotoCoreError, ClientError

        region = self._clients.region
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
            why = "the price list does not have it"
        except (ClientError, BotoCoreError) as error:
            price, why = None, f"{error}; the right is pricing:GetProducts"
        if price is not None:
            return price
        known = find_gpu_type(instance_type)
        table = (
            f"${known.usd_per_hour:g} of {PRICES_AS_OF} in us-east-1 is used" if known else "it is in no table either"
        )
        self._say_once(instance_type, f"the price of {instance_type} in {region} cannot be asked ({why}): {table}")
        return known.usd_per_hour if known else None

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
