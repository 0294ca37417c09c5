"""A machine of the pool as a service of systemd: it is outlived by what trains."""

from orchestrator.errors import UsageError
from orchestrator.fleets.pool.host import DRAIN_WITHIN_S
from tests.deploy.test_units import COMMAND, DEPLOY, service_of

UNIT = DEPLOY / "elastic-pool.service"


def test_agents_are_let_end_by_their_host_and_outlive_one_that_crashes() -> None:
    service = service_of(UNIT)
    assert service["ExecStart"] == f"{COMMAND} agent --join ${{ELASTIC_STORE}} $ELASTIC_POOL_OPTIONS"
    assert service["KillMode"] == "process"
    assert float(service["TimeoutStopSec"].removesuffix("s")) > DRAIN_WITHIN_S
    assert (service["User"], service["Restart"]) == ("elastic", "on-failure")
    assert service["RestartPreventExitStatus"] == str(UsageError.exit_code), "which no other try mends"
    assert not {"PrivateTmp", "ProtectProc", "ProcSubset", "PrivatePIDs", "DynamicUser"} & set(service)
    page = (UNIT.parent / "README.md").read_text()
    assert "useradd --system" in page
    assert service["EnvironmentFile"] in page
