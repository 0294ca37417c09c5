"""Where an instance may be had: the order, prices and what they fall back on, and quotas."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.fleets.ec2.offers import order_offers
from orchestrator.fleets.ec2.places import Places
from orchestrator.fleets.ec2.prices import newest_by_zone, read_on_demand
from orchestrator.fleets.ec2.quotas import quota_of
from orchestrator.fleets.protocol import FleetError, LaunchError, Offer
from orchestrator.rehearsal.account import Account
from orchestrator.rehearsal.prices import Prices
from orchestrator.spec.models import Market, Resources
from tests.support.moto_ec2 import Bench, answer_json, answer_json_in_turn, answer_later, answer_xml, request, set_up
from tests.support.s3_faults import answered_with

A, B, C = "us-east-1a", "us-east-1b", "us-east-1c"


def resources(market: Market = "spot_then_on_demand", region: str | None = None) -> Resources:
    return Resources.model_validate(
        {"fleet": "ec2", "market": market, "region": region, "ladder": [{"instance": "g6.xlarge"}]}
    )


def ordered(market: Market, **changes: Any) -> list[tuple[str, str]]:
    facts: dict[str, Any] = {
        "zones": {A, B, C},
        "spot": {A: 0.4, B: 0.3, C: 0.31},
        "on_demand": 0.8,
        "interruptions": {},
    }
    offers = order_offers("g6.xlarge", market=market, **{**facts, **changes})
    return [(offer.zone[-1], offer.market) for offer in offers]


def test_the_cheapest_zone_is_first() -> None:
    assert ordered("spot") == [("b", "spot"), ("c", "spot"), ("a", "spot")]


def test_on_demand_costs_the_same_everywhere() -> None:
    assert ordered("on_demand") == [("a", "on_demand"), ("b", "on_demand"), ("c", "on_demand")]


def test_on_demand_follows_spot_where_both_may_be() -> None:
    assert ordered("spot_then_on_demand") == [*ordered("spot"), *ordered("on_demand")]


def test_a_zone_that_took_instances_back_lately_counts_as_dearer() -> None:
    assert ordered("spot", interruptions={B: 1}) == [("c", "spot"), ("b", "spot"), ("a", "spot")]
    assert ordered("spot", interruptions={B: 10}) == [("c", "spot"), ("a", "spot"), ("b", "spot")]
    assert ordered("spot", interruptions={B: 1}, spot={A: 0.4, B: 0.1, C: 0.31})[0] == ("b", "spot")


def test_spot_as_dear_as_on_demand_is_no_offer_where_on_demand_is_one() -> None:
    dear = {A: 0.9, B: 0.8, C: 0.7}
    assert ordered("spot_then_on_demand", spot=dear) == [("c", "spot"), *ordered("on_demand")]
    assert ordered("spot", spot=dear) == [("c", "spot"), ("b", "spot"), ("a", "spot")]


def test_spot_without_a_price_may_cost_the_on_demand_price() -> None:
    offers = order_offers("t", market="spot", zones={A, B}, spot={B: 0.3}, on_demand=0.8, interruptions={})
    assert offers == (Offer("t", B, "spot", 0.3), Offer("t", A, "spot", 0.8))
    assert ordered("spot_then_on_demand", spot={}) == [*[(z, "spot") for z in "abc"], *ordered("on_demand")]


def test_prices_are_asked_of_aws_and_remembered_for_a_while(bench: Bench) -> None:
    bench.aws.set_prices(Prices(spot={"g6.xlarge": {A: 0.31, B: 0.2, C: 0.25}}))
    offers = bench.fleet.offers(resources("spot"), "g6.xlarge")
    assert offers == (
        Offer("g6.xlarge", B, "spot", 0.2),
        Offer("g6.xlarge", C, "spot", 0.25),
        Offer("g6.xlarge", A, "spot", 0.31),
    )

    bench.aws.set_prices(Prices(spot={"g6.xlarge": {A: 0.01, B: 0.2, C: 0.25}}))
    assert bench.fleet.offers(resources("spot"), "g6.xlarge") == offers
    bench.now_s = 301
    assert bench.fleet.offers(resources("spot"), "g6.xlarge")[0] == Offer("g6.xlarge", A, "spot", 0.01)
    sent = bench.requests("DescribeSpotPriceHistory")
    assert len(sent) == 2
    assert sent[0]["ProductDescription.1"] == "Linux/UNIX"


def test_the_newest_price_of_each_zone_counts() -> None:
    at = datetime(2026, 11, 28, tzinfo=UTC)
    history: Any = [
        {"AvailabilityZone": A, "Timestamp": at - timedelta(hours=2), "SpotPrice": "0.5"},
        {"AvailabilityZone": A, "Timestamp": at, "SpotPrice": "0.4"},
        {"AvailabilityZone": B, "Timestamp": at, "SpotPrice": "0.3"},
        {"AvailabilityZone": A, "Timestamp": at - timedelta(hours=1), "SpotPrice": "0.6"},
    ]
    assert newest_by_zone(history) == {A: 0.4, B: 0.3}


def price_list(usd: str) -> list[str]:
    """A product as GetProducts answers it."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": usd}, "description": "$ per On Demand Linux Instance Hour"}
    term = {"priceDimensions": {"ABC.JRTC.6YS6": dimension}, "sku": "ABC"}
    return [json.dumps({"product": {"sku": "ABC"}, "terms": {"OnDemand": {"ABC.JRTC": term}}})]


def test_the_price_list_is_read_whatever_else_is_in_it() -> None:
    assert read_on_demand(price_list("0.8048000000")) == 0.8048
    assert read_on_demand([*price_list("0.0000000000"), '{"terms": {}}', "{}"]) is None
    assert read_on_demand([]) is None


def test_the_accounts_own_on_demand_price_goes_before_the_table(bench: Bench) -> None:
    answer_json(bench.clients.pricing, "pricing", "GetProducts", 200, {"PriceList": price_list("0.9")})

    offers = bench.fleet.offers(resources("on_demand"), "g6.xlarge")
    assert {offer.usd_per_hour for offer in offers} == {0.9}
    asked = json.loads(bench.requests("GetProducts")[0]["json"])
    filters = {f["Field"]: f["Value"] for f in asked["Filters"]}
    assert (filters["instanceType"], filters["regionCode"], filters["operatingSystem"]) == (
        "g6.xlarge",
        "us-east-1",
        "Linux",
    )
    assert bench.said == []


def test_without_a_price_list_the_dated_table_is_used_and_that_is_said_once(bench: Bench) -> None:
    answer_json(bench.clients.pricing, "pricing", "GetProducts", 400, {"__type": "AccessDeniedException"})

    for _ in range(2):
        offers = bench.fleet.offers(resources("on_demand"), "g6.xlarge")
        bench.now_s += 90_000
    assert {offer.usd_per_hour for offer in offers} == {0.8048}
    (said,) = bench.said
    assert "the right is pricing:GetProducts" in said and "$0.8048 of 2026-11 is used" in said


def test_a_type_whose_price_nobody_tells_cannot_be_budgeted(bench: Bench) -> None:
    answer_json(bench.clients.pricing, "pricing", "GetProducts", 200, {"PriceList": []})

    with pytest.raises(LaunchError, match=r"AWS's price list has no m5\.large in us-east-1") as caught:
        bench.fleet.offers(resources(), "m5.large")
    assert caught.value.kind == "fatal"


FAILED = (500, {"__type": "InternalErrorException"})


def test_a_price_list_that_fails_is_asked_again_soon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day at the wrong price is a day in which no budget holds."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _pause_s: None)
    answers = [*[FAILED] * 4, (200, {"PriceList": price_list("0.9")})]
    answer_json_in_turn(bench.clients.pricing, "pricing", "GetProducts", answers)

    first, still = (bench.fleet.offers(resources("on_demand"), "g6.xlarge")[0] for _ in range(2))
    bench.now_s = 61
    assert first.usd_per_hour == still.usd_per_hour == 0.8048
    assert bench.fleet.offers(resources("on_demand"), "g6.xlarge")[0].usd_per_hour == 0.9
    bench.now_s = 3600
    assert bench.fleet.offers(resources("on_demand"), "g6.xlarge")[0].usd_per_hour == 0.9
    assert len(bench.requests("GetProducts")) == 5


def test_a_type_whose_price_is_not_told_at_this_moment_may_be_had_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal for good would fail every job that wants the type."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _pause_s: None)
    answers = [*[FAILED] * 4, (200, {"PriceList": price_list("0.1")})]
    answer_json_in_turn(bench.clients.pricing, "pricing", "GetProducts", answers)

    with pytest.raises(FleetError, match=r"The price of m5\.large in us-east-1 cannot be asked"):
        bench.fleet.offers(resources("on_demand"), "m5.large")
    assert bench.fleet.offers(resources("on_demand"), "m5.large")[0].usd_per_hour == 0.1


def test_the_table_says_nothing_of_another_region(aws: Account) -> None:
    bench = Bench(aws, set_up(region="eu-west-1"))
    answer_json(bench.clients.pricing, "pricing", "GetProducts", 400, {"__type": "AccessDeniedException"})

    with pytest.raises(FleetError, match=r"The price of g6\.xlarge in eu-west-1 cannot be asked .*pricing:GetProducts"):
        bench.fleet.offers(resources("on_demand"), "g6.xlarge")


def test_spot_prices_that_fail_are_asked_again_soon(bench: Bench) -> None:
    answer_xml(bench.clients.ec2, "DescribeSpotPriceHistory", (403, "UnauthorizedOperation", "no"))
    bench.aws.set_prices(Prices(spot={"g6.xlarge": {A: 0.2, B: 0.3, C: 0.3}}))

    assert bench.fleet.offers(resources("spot"), "g6.xlarge")[0].usd_per_hour == 0.8048
    bench.now_s = 61
    assert bench.fleet.offers(resources("spot"), "g6.xlarge")[0].usd_per_hour == 0.2


def test_without_spot_prices_the_worst_is_assumed(bench: Bench) -> None:
    answer_xml(bench.clients.ec2, "DescribeSpotPriceHistory", (403, "UnauthorizedOperation", "no"))

    offers = bench.fleet.offers(resources("spot"), "g6.xlarge")
    assert {offer.usd_per_hour for offer in offers} == {0.8048}
    assert any("ec2:DescribeSpotPriceHistory" in said for said in bench.said)


def answer_bytes(client: Any, operation: str, status: int, body: bytes) -> None:
    """Every request of this kind gets this, from something that is not AWS."""
    client.meta.events.register_first(
        f"before-send.*.{operation}", lambda request, **_: answered_with(request.url, status, body)
    )


NOT_AWS = [(200, b""), (200, b"<html>Welcome to the hotel</html>"), (403, b"blocked by the proxy")]


@pytest.mark.parametrize(("status", "body"), NOT_AWS)
def test_a_proxys_page_in_place_of_spot_prices_is_as_no_answer(bench: Bench, status: int, body: bytes) -> None:
    """It must not end the controller, which looks after other jobs too."""
    answer_bytes(bench.clients.ec2, "DescribeSpotPriceHistory", status, body)

    offers = bench.fleet.offers(resources("spot"), "g6.xlarge")
    assert {offer.usd_per_hour for offer in offers} == {0.8048}
    assert any("spot price of g6.xlarge cannot be asked (what answers is not AWS" in said for said in bench.said)


def test_a_proxys_page_in_place_of_the_price_list_is_as_no_answer(bench: Bench) -> None:
    answer_bytes(bench.clients.pricing, "GetProducts", 200, b"<html>Welcome to the hotel</html>")

    offers = bench.fleet.offers(resources("on_demand"), "g6.xlarge")
    assert {offer.usd_per_hour for offer in offers} == {0.8048}
    assert any("what answers is not AWS" in said and "$0.8048 of 2026-11 is used" in said for said in bench.said)
    with pytest.raises(FleetError, match=r"The price of m5\.large in us-east-1 cannot be asked .*is not AWS"):
        bench.fleet.offers(resources("on_demand"), "m5.large")


def test_a_price_list_of_other_things_is_as_no_answer(bench: Bench) -> None:
    answer_json(bench.clients.pricing, "pricing", "GetProducts", 200, {"PriceList": ["no JSON"]})

    assert {offer.usd_per_hour for offer in bench.fleet.offers(resources("on_demand"), "g6.xlarge")} == {0.8048}


@pytest.mark.parametrize(("status", "body"), NOT_AWS)
def test_a_proxys_page_in_place_of_a_places_facts_is_said(bench: Bench, status: int, body: bytes) -> None:
    places = Places(bench.clients, lambda: bench.now_s)
    for client, operation in (
        (bench.clients.ec2, "DescribeInstanceTypes"),
        (bench.clients.ec2, "DescribeInstanceTypeOfferings"),
        (bench.clients.ssm, "GetParameter"),
    ):
        answer_bytes(client, operation, status, body)

    assert places.vcpus("x9.large") is None
    with pytest.raises(FleetError, match=r"DescribeInstanceTypeOfferings in us-east-1 failed: what answers is not AWS"):
        places.zones("x9.large")
    why = "what answers is not AWS" if status == 200 else "403 .blocked by the proxy"
    with pytest.raises(FleetError, match=f"GetParameter in us-east-1 failed: {why}"):
        places.ami("/an/ami")


def test_only_zones_that_have_the_type_and_a_subnet_are_offered(bench: Bench) -> None:
    zones = {offer.zone for offer in bench.fleet.offers(resources(), "g6.xlarge")}
    assert zones == {A, B, C}
    (sent,) = bench.requests("DescribeInstanceTypeOfferings")
    assert (sent["LocationType"], sent["Filter.1.Value.1"]) == ("availability-zone", "g6.xlarge")


def test_a_job_of_another_region_is_refused(bench: Bench) -> None:
    with pytest.raises(LaunchError, match="may run in eu-west-1 only, and the store's account is set up in us-east-1"):
        bench.fleet.offers(resources(region="eu-west-1"), "g6.xlarge")
    assert bench.fleet.offers(resources(region="us-east-1"), "g6.xlarge")


def test_a_zone_is_remembered_for_an_interruption_for_an_hour(bench: Bench) -> None:
    bench.aws.set_prices(Prices(spot={"g6.xlarge": {A: 0.2, B: 0.21, C: 0.3}}))
    taken = bench.launched("job-g1-n0-a0")
    assert [offer.zone for offer in bench.fleet.offers(resources("spot"), "g6.xlarge")] == [A, B, C]

    bench.aws.booted(taken)
    bench.aws.take_back(taken)
    bench.aws.ended(taken)
    bench.fleet.describe(["job-g1-n0-a0"])
    assert [offer.zone for offer in bench.fleet.offers(resources("spot"), "g6.xlarge")] == [B, A, C]
    answer_later(bench.clients.ec2, 3500)
    bench.fleet.describe(["job-g2-n0-a0"])  # the one that is gone is asked for no more
    assert bench.fleet.offers(resources("spot"), "g6.xlarge")[0].zone == B
    answer_later(bench.clients.ec2, 200)
    bench.fleet.describe(["job-g2-n0-a0"])
    assert bench.fleet.offers(resources("spot"), "g6.xlarge")[0].zone == A


# --- quotas -----------------------------------------------------------------------------------------------------------


def quota(bench: Bench, value: float) -> None:
    answer_json(bench.clients.quotas, "service-quotas", "GetServiceQuota", 200, {"Quota": {"Value": value}})


def test_a_quota_of_0_is_told_before_anything_is_launched(bench: Bench) -> None:
    quota(bench, 0.0)

    with pytest.raises(LaunchError) as caught:
        bench.fleet.launch(request())
    assert caught.value.kind == "quota"
    assert str(caught.value) == (
        "an instance of g6.xlarge has 4 vCPUs, and the account's quota 'All G and VT Spot Instance Requests' "
        "(L-3819A6DF) in us-east-1 allows 0: ask for more with: aws service-quotas request-service-quota-increase "
        "--service-code ec2 --quota-code L-3819A6DF --desired-value 4 --region us-east-1"
    )
    assert bench.requests("RunInstances") == []


def test_a_quota_that_does_not_suffice_for_all_of_a_generation_is_told_before_the_first(bench: Bench) -> None:
    quota(bench, 8.0)

    with pytest.raises(
        LaunchError, match=r"3 instances of g6\.xlarge have 12 vCPUs.* allows 8.*--desired-value 12"
    ) as caught:
        bench.fleet.launch(request(count=3))
    assert caught.value.kind == "quota"
    assert bench.requests("RunInstances") == []
    bench.fleet.launch(request(count=2))


def test_a_quota_that_suffices_is_asked_for_once(bench: Bench) -> None:
    quota(bench, 4.0)

    bench.fleet.launch(request("job-g1-n0-a0"))
    bench.fleet.launch(request("job-g1-n1-a0"))
    assert len(bench.requests("GetServiceQuota")) == 1
    bench.now_s = 3601
    bench.fleet.launch(request("job-g1-n2-a0"))
    assert len(bench.requests("GetServiceQuota")) == 2


def test_who_may_not_read_quotas_launches_all_the_same_and_says_so_once(bench: Bench) -> None:
    answer_json(bench.clients.quotas, "service-quotas", "GetServiceQuota", 400, {"__type": "AccessDeniedException"})

    bench.fleet.launch(request("job-g1-n0-a0"))
    bench.fleet.launch(request("job-g1-n1-a0", market="on_demand"))
    (said,) = bench.said
    assert "servicequotas:GetServiceQuota" in said
    before = len(bench.requests("GetServiceQuota"))
    bench.now_s = 61
    bench.fleet.launch(request("job-g1-n2-a0"))
    assert len(bench.requests("GetServiceQuota")) == before + 1


@pytest.mark.parametrize(
    ("instance_type", "spot", "on_demand"),
    [
        ("g6e.xlarge", "L-3819A6DF", "L-DB2E81BA"),
        ("p5.48xlarge", "L-7212CCBC", "L-417A185B"),
        ("c7i.large", "L-34B43A08", "L-1216C47A"),
    ],
)
def test_the_quota_of_a_family(instance_type: str, spot: str, on_demand: str) -> None:
    found = [quota_of(instance_type, market) for market in ("spot", "on_demand")]
    assert [q.code for q in found if q] == [spot, on_demand]


def test_a_family_of_no_known_quota_is_not_checked() -> None:
    assert quota_of("x2idn.16xlarge", "spot") is None
