"""EC2's quotas: an account may run so many vCPUs of a family, spot and on-demand counted apart. New accounts have 0."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.fleets.ec2.remembered import Makeshift, Remembered
from orchestrator.fleets.protocol import LaunchError, Market

if TYPE_CHECKING:
    from mypy_boto3_service_quotas.client import ServiceQuotasClient

KEPT_S = 3600.0


@dataclass(frozen=True)
class Quota:
    """One of the account's limits, counted in vCPUs."""

    code: str
    name: str


_BY_FAMILY: dict[tuple[str, Market], Quota] = {
    ("g", "on_demand"): Quota("L-DB2E81BA", "Running On-Demand G and VT instances"),
    ("g", "spot"): Quota("L-3819A6DF", "All G and VT Spot Instance Requests"),
    ("p", "on_demand"): Quota("L-417A185B", "Running On-Demand P instances"),
    ("p", "spot"): Quota("L-7212CCBC", "All P Spot Instance Requests"),
}
_OTHER: dict[Market, Quota] = {
    "on_demand": Quota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"),
    "spot": Quota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"),
}
_STANDARD = frozenset("acdhimrtz")


def quota_of(instance_type: str, market: Market) -> Quota | None:
    """The quota that an instance of this type counts against; None: it is of no family that we know."""
    family = instance_type[:1]
    return _BY_FAMILY.get((family, market)) or (_OTHER[market] if family in _STANDARD else None)


def how_to_raise(quota: Quota, vcpus: int, region: str) -> str:
    """The command that asks AWS for more."""
    return (
        f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {quota.code} "
        f"--desired-value {max(vcpus, 1)} --region {region}"
    )


class Quotas:
    """The account's quotas, asked once an hour. Who may not read them launches without the check."""

    def __init__(
        self,
        client: "ServiceQuotasClient",
        region: str,
        monotonic: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self._client, self._region, self._log = client, region, log
        self._known: Remembered[float | None] = Remembered(KEPT_S, monotonic)
        self._said = threading.Event()

    def check(self, instance_type: str, vcpus: int | None, market: Market, count: int) -> None:
        """Raise LaunchError where so many such instances may not run, even if nothing else does."""
        quota = quota_of(instance_type, market)
        if quota is None or vcpus is None:
            return
        allowed, needed = self._known.get(quota.code, lambda: self._ask(quota)), count * vcpus
        if allowed is not None and allowed < needed:
            have = f"{count} instances of {instance_type} have" if count > 1 else f"an instance of {instance_type} has"
            raise LaunchError(
                f"{have} {needed} vCPUs, and the account's quota '{quota.name}' ({quota.code}) in {self._region} "
                f"allows {allowed:g}: ask for more with: {how_to_raise(quota, needed, self._region)}",
                kind="quota",
            )

    def _ask(self, quota: Quota) -> float | Makeshift[float | None]:
        from orchestrator.fleets.ec2.errors import FAILURES, why_untold  # brings botocore

        try:
            return self._client.get_service_quota(ServiceCode="ec2", QuotaCode=quota.code)["Quota"]["Value"]
        except (*FAILURES, LookupError) as error:
            if not self._said.is_set():
                self._said.set()
                self._log(
                    f"the account's quotas cannot be read ({why_untold(error, 'servicequotas:GetServiceQuota')}): "
                    "launches are tried without a look at them"
                )
            return Makeshift(None)
