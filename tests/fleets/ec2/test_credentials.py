"""Credentials that cannot be got anew are for a person to mend: they end no controller."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import boto3.session
import pytest
from botocore.credentials import RefreshableCredentials

from orchestrator.errors import UsageError
from orchestrator.fleets.ec2.client import Clients, make_clients
from orchestrator.fleets.ec2.errors import FleetDenied
from orchestrator.fleets.ec2.fleet import Ec2Fleet
from tests.support.moto_ec2 import Bench


def raises(error: Exception) -> Callable[[], NoReturn]:
    def refresh() -> NoReturn:
        raise error

    return refresh


def clients_whose_credentials_raise(error: Exception) -> Clients:
    """As a `credential_process` does that has worked so far."""
    session = boto3.session.Session()
    soon = datetime.now(UTC) + timedelta(minutes=5)  # and are got anew for every request
    held = RefreshableCredentials("AKIAX", "secret", "token", soon, raises(error), "custom-process")
    session._session.__dict__["_credentials"] = held
    return make_clients("us-east-1", session)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("the refreshed credentials are still expired"), ValueError("Expecting value"), OSError("no program")],
)
def test_whatever_a_provider_of_credentials_raises_is_a_denial(bench: Bench, error: Exception) -> None:
    fleet = Ec2Fleet(
        bench.account,
        bench.identity,
        clients_whose_credentials_raise(error),
        now=lambda: datetime.now(UTC),
        monotonic=lambda: bench.now_s,
        log=bench.said.append,
    )
    with pytest.raises(FleetDenied, match=f"No AWS credentials for EC2 in us-east-1 .*{error}"):
        fleet.describe(["job-g1-n0-a0"])


def test_a_credential_process_that_cannot_be_started_is_a_setting_that_cannot_be_used(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path_factory.mktemp("aws") / "config"
    config.write_text("[profile mine]\ncredential_process = /no/such/program\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    with pytest.raises(UsageError, match=r"The settings for AWS cannot be used: .*No such file or directory"):
        make_clients("us-east-1", boto3.session.Session())
