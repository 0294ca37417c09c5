"""AWS's price list, for the account on loopback: moto has none. The form is that of the Pricing API's GetProducts."""

import json
from collections.abc import Iterable, Mapping

from orchestrator.rehearsal.prices import Prices


def get_products(prices: Prices, filters: Iterable[Mapping[str, str]]) -> dict[str, object]:
    """The answer to a question for the on-demand price of one instance type."""
    asked = {each["Field"]: each["Value"] for each in filters}
    usd_per_hour = prices.usd_per_hour(asked["instanceType"], "", "on_demand")
    dimension = {"unit": "Hrs", "description": "on demand", "pricePerUnit": {"USD": f"{usd_per_hour:.10f}"}}
    product = {
        "product": {"productFamily": "Compute Instance", "attributes": asked},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": dimension}}}},
    }
    return {"FormatVersion": "aws_v1", "PriceList": [json.dumps(product)]}
