"""An AWS account on loopback: EC2, IAM, CloudFormation, SSM and STS by moto, in a process of its own.

Whoever has its environment uses it as AWS, through any client; `Account` is for what AWS itself decides: capacity,
quotas, prices, when an instance has booted, when it is taken back.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.fleets.protocol import Market
from orchestrator.rehearsal.prices import Prices
from orchestrator.rehearsal.refusals import Shortages
from orchestrator.rehearsal.serving import ServerDown

REGION = "us-east-1"
SERVICES = ("EC2", "IAM", "CLOUDFORMATION", "SSM", "STS", "SERVICE_QUOTAS", "PRICING")
_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class LedgerEntry:
    """An instance as the account knows it."""

    id: str
    tags: dict[str, str]
    instance_type: str
    zone: str
    market: Market
    state: str
    """In EC2's words."""
    why: str
    """Why it ended."""
    launched_at: datetime
    ended_at: datetime | None
    """Until when it is paid for."""
    usd_per_hour: float
    user_data: str = field(repr=False)
    has_role: bool
    """Whether it finds credentials in its metadata."""
    shows_tags: bool
    """Whether it finds its tags there."""


@dataclass(frozen=True)
class Account:
    """A running account."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        """What leads a process to it."""
        endpoints = {f"AWS_ENDPOINT_URL_{service}": self.url for service in SERVICES}
        direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return {**endpoints, **direct, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}

    def ledger(self) -> list[LedgerEntry]:
        """All instances that were ever started, oldest first."""
        return [_entry(entry) for entry in self._ask("ledger")]

    def set_shortages(self, shortages: Shortages) -> None:
        """From now on there is none of this."""
        asked = asdict(shortages)
        self._ask("shortages", {**asked, "capacity": sorted(shortages.capacity), "quota": sorted(shortages.quota)})

    def set_prices(self, prices: Prices) -> None:
        """From now on new instances cost this."""
        self._ask("prices", asdict(prices))

    def booted(self, instance_id: str) -> None:
        """An instance's machine runs: it is no longer pending."""
        self._ask("booted", {"id": instance_id})

    def shut_down(self, instance_id: str) -> None:
        """The instance has shut itself down; whether that ends it is what it was launched with."""
        self._ask("shut-down", {"id": instance_id})

    def take_back(self, instance_id: str) -> None:
        """End a spot instance as AWS does when it wants it back, another as when it breaks."""
        self._ask("take-back", {"id": instance_id})

    def ended(self, instance_id: str) -> None:
        """Nothing of an instance that shuts down runs any more: it is terminated."""
        self._ask("ended", {"id": instance_id})

    def _ask(self, action: str, what: Any = None) -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/_rehearsal/{action}", data=json.dumps(what or {}).encode())
        with direct.open(request, timeout=_TIMEOUT_S) as answer:
            return json.load(answer)


@contextmanager
def running_account(log: Path | None = None) -> Iterator[Account]:
    """Start an account, and end it. It also ends by itself when this process dies. Raises ServerDown.

    What moto complains of goes to `log`, or else to where this process's complaints go.
    """
    command = [sys.executable, "-m", "orchestrator.rehearsal.account_server"]
    with nullcontext() if log is None else open(log, "ab") as errors:
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true"},
            start_new_session=True,  # Ctrl-C is for who started it, who ends it in order
        )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url:
            said = "" if log is None else f":\n{log.read_text()[-3000:]}"
            raise ServerDown(f"moto's server has ended with exit code {server.wait()} before it was ready{said}")
        yield Account(url)
    finally:
        server.kill()
        server.communicate()


def _entry(entry: dict[str, Any]) -> LedgerEntry:
    ended_at = entry["ended_at"]
    times = {
        "launched_at": datetime.fromisoformat(entry["launched_at"]),
        "ended_at": datetime.fromisoformat(ended_at) if ended_at else None,
    }
    return LedgerEntry(**{**entry, **times})
