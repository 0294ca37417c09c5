"""An interruption that is announced: checkpoint, commit, say so, leave; a mere risk is told, and training goes on."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.agent.imds import ENDPOINT_VARIABLE, InstanceMetadata, Interruption
from orchestrator.agent.interruptions import ASK_EVERY_S, SILENT_AFTER, InterruptionWatch
from orchestrator.agent.notices import Notices
from orchestrator.rehearsal.imds import Identity, MetadataServer
from tests.agent.virtual_machine import VirtualMachine


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    server = MetadataServer(Identity("i-0abc", "g4dn.xlarge", "us-east-1a"))
    yield server
    server.close()


class Machine(VirtualMachine):
    """One that asks a metadata service in the background, as on EC2."""

    def __init__(self, root: Path, endpoint: str) -> None:
        super().__init__(root, instance_id="i-0abc")
        metadata = InstanceMetadata({ENDPOINT_VARIABLE: endpoint}, self.monotonic, lambda: datetime.now(UTC))
        watch = InterruptionWatch(metadata, self._interrupted, self.agent.risks_end, self.agent.note)
        self.start(watch.look, "interruptions")

    def _interrupted(self, notice: Interruption) -> None:
        self.agent.taken_away(notice.action, notice.at, notice.seconds)


@pytest.fixture
def machine(tmp_path: Path, server: MetadataServer) -> Machine:
    """It has trained for half a minute, and no checkpoint was due yet."""
    machine = Machine(tmp_path, server.endpoint)
    machine.assign()
    assert machine.live(30)
    return machine


def messages(machine: VirtualMachine) -> list[tuple[str, str]]:
    return [(notice.kind, notice.message) for notice in machine.beat.notices]


def test_a_notice_is_seen_within_six_seconds_and_nothing_is_lost(machine: Machine, server: MetadataServer) -> None:
    """Its workers need a second to end, so it has heard of it within five."""
    at = server.interrupt(within_s=120.0)
    assert not machine.live(ASK_EVERY_S + 1)
    [(kind, message)] = messages(machine)
    assert kind == "preemption_notice"
    assert f"taken away (terminate) at {at:%H:%M:%S} UTC" in message
    assert (machine.beat.state, machine.beat.ends_at) == ("leaving", at.replace(microsecond=0))
    assert machine.beat.exit is not None
    assert (machine.beat.exit.outcome, machine.beat.exit.step) == ("drained", machine.committed)
    assert machine.committed >= 30


def test_it_is_told_at_once_and_not_only_when_the_workers_have_ended(machine: Machine, server: MetadataServer) -> None:
    machine.deaf = True
    at = server.interrupt(within_s=120.0)
    assert machine.live(ASK_EVERY_S + 1)
    assert (machine.beat.state, machine.beat.ends_at) == ("draining", at.replace(microsecond=0))
    assert [kind for kind, _ in messages(machine)] == ["preemption_notice"]


def test_what_does_not_drain_in_time_is_given_up_when_the_time_is_over(
    machine: Machine, server: MetadataServer
) -> None:
    machine.deaf = True
    server.interrupt(within_s=60.0)
    assert machine.live(55)
    assert not machine.live(20)


def test_a_notice_with_a_time_that_is_over_still_has_it_drained(machine: Machine) -> None:
    machine.agent.taken_away("terminate", datetime(2026, 1, 1, tzinfo=UTC), -30.0)
    assert not machine.live(30)
    assert machine.committed >= 30


def test_it_drains_also_where_nothing_can_be_said_of_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Notices, "say", fails)
        with pytest.raises(OSError, match="No space left"):
            machine.agent.taken_away("terminate", datetime(2026, 1, 1, tzinfo=UTC), 110.0)
    assert not machine.live(30)
    assert machine.committed >= 30


def test_a_risk_is_told_once_and_training_goes_on(machine: Machine, server: MetadataServer) -> None:
    server.recommend_rebalance()
    assert machine.live(60)
    assert machine.beat.at_risk
    assert machine.beat.ends_at is None
    assert machine.beat.state == "running"
    [(kind, message)] = messages(machine)
    assert (kind, "rebalance recommendation" in message) == ("note", True)
    server.interrupt()
    assert not machine.live(ASK_EVERY_S + 1)
    assert machine.beat.ends_at is not None


def test_a_service_that_falls_silent_is_told_once_and_ends_nothing(machine: Machine, server: MetadataServer) -> None:
    server.close()
    assert machine.live(3 * SILENT_AFTER * ASK_EVERY_S)
    [(kind, message)] = messages(machine)
    assert (kind, message.startswith("an interruption may come unannounced")) == ("note", True)
    assert machine.beat.state == "running"


def test_one_that_waits_for_work_leaves_too(tmp_path: Path, server: MetadataServer) -> None:
    machine = Machine(tmp_path, server.endpoint)
    assert machine.live(10)
    server.interrupt()
    assert not machine.live(10)
    assert [kind for kind, _ in messages(machine)] == ["preemption_notice"]
    assert machine.beat.state == "leaving"
