"""Where and how an instance type may be had, best first. Pure."""

from collections.abc import Collection, Mapping

from orchestrator.fleets.protocol import Offer
from orchestrator.spec.models import Market

INTERRUPTION_SHARE = 0.1
"""Each spot instance of the type that a zone took back lately makes it count as so much dearer: a restart costs
minutes, and where one was taken more are. Ten double the price: a zone that is much cheaper still comes first."""


def order_offers(
    instance_type: str,
    *,
    market: Market,
    zones: Collection[str],
    spot: Mapping[str, float],
    on_demand: float,
    interruptions: Mapping[str, int],
) -> tuple[Offer, ...]:
    """All offers of a type in these zones: by price and recent interruptions; spot before on-demand where both may be.

    Who has no spot price costs at most the on-demand price, as AWS caps it. Where on-demand may be had, spot that is
    not cheaper is left out: it would only be interrupted.
    """

    def weight(offer: Offer) -> tuple[float, str]:
        return offer.usd_per_hour * (1 + INTERRUPTION_SHARE * interruptions.get(offer.zone, 0)), offer.zone

    cheap = [Offer(instance_type, zone, "spot", spot.get(zone, on_demand)) for zone in zones]
    full = [Offer(instance_type, zone, "on_demand", on_demand) for zone in sorted(zones)]
    if market == "on_demand":
        return tuple(full)
    if market == "spot":
        return tuple(sorted(cheap, key=weight))
    cheaper = [offer for offer in cheap if offer.usd_per_hour < on_demand or offer.zone not in spot]
    return (*sorted(cheaper, key=weight), *full)
