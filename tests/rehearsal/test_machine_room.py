"""What the account has launched really runs, and what has ended there really ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.fleets.processes import marked_processes
from orchestrator.rehearsal.account import Account, LedgerEntry
from orchestrator.rehearsal.guard import VARIABLE as MARK
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.machine_room import MachineRoom, running_room
from tests.rehearsal.conftest import IMAGE, SPOT, client, run_instance
from tests.support.isolation import SESSION_VARIABLE
from tests.support.waiting import wait_until

SLEEPS = "#!/bin/bash\nsetsid sleep 600 &\nsleep 600\n"
SHOWN = ["instance-id", "placement/availability-zone", "tags/instance/elastic:instance"]


def room_of(account: Account, tmp_path: Path, **more: Any) -> MachineRoom:
    environ = {SESSION_VARIABLE: os.environ[SESSION_VARIABLE], "PYTHON": sys.executable}
    credentials = Credentials("AKIDROLE", "secret", "token")
    room = MachineRoom(account, tmp_path / "machines", environ, lambda: credentials, **more)
    room._over.update(entry.id for entry in account.ledger())  # other tests' instances have no machines here
    return room


@pytest.fixture
def room(account: Account, tmp_path: Path) -> Iterator[MachineRoom]:
    with running_room(room_of(account, tmp_path)) as room:
        yield room


@pytest.fixture
def launch(ec2: Any) -> Iterator[Callable[..., str]]:
    launched: list[str] = []

    def run(user_data: str, **changes: Any) -> str:
        launched.append(run_instance(ec2, UserData=user_data, **changes))
        return launched[-1]

    yield run
    if launched:
        ec2.terminate_instances(InstanceIds=launched)


def entry(account: Account, instance_id: str) -> LedgerEntry:
    return next(entry for entry in account.ledger() if entry.id == instance_id)


def wait_for_state(account: Account, instance_id: str, state: str) -> None:
    wait_until(lambda: entry(account, instance_id).state == state, f"{instance_id} is {state}")


def wait_until_busy(room: MachineRoom, instance_id: str, processes: int) -> None:
    def busy() -> bool:
        machine = room.machines.get(instance_id)
        return machine is not None and len(marked_processes(str(machine.directory), "ELASTIC_MACHINE")) >= processes

    wait_until(busy, f"{processes} processes of {instance_id}")


def test_user_data_runs_after_the_boot_and_finds_what_an_instance_finds(
    room: MachineRoom, account: Account, ec2: Any, launch: Callable[..., str]
) -> None:
    client(account, "iam").create_instance_profile(InstanceProfileName="of-the-room")
    ask = (
        'token=$(curl -s -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" $endpoint/latest/api/token)\n'
        'get() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$endpoint/latest/meta-data/$1" || echo none; echo; }\n'
    )
    script = "#!/bin/bash\nendpoint=$AWS_EC2_METADATA_SERVICE_ENDPOINT\n" + ask
    script += "".join(f"get {path}\n" for path in SHOWN)
    script += 'echo "gpus=${ELASTIC_GPUS-all}"\n'
    script += '$PYTHON -c "import boto3; print(boto3.session.Session().get_credentials().access_key)"'
    shown = launch(
        f"{script}\necho done\n",
        IamInstanceProfile={"Name": "of-the-room"},
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "elastic:instance", "Value": "digits-g1-s0"}]}
        ],
    )
    bare = launch(f"{script}\necho done\n")
    for instance in (shown, bare):
        wait_until(lambda i=instance: i in room.machines and "done" in room.machines[i].log.read_text(), "user-data")  # type: ignore[misc]
    lines = room.machines[shown].log.read_text().splitlines()
    assert lines == [shown, "us-east-1a", "digits-g1-s0", "gpus=", "AKIDROLE", "done"]
    lines = room.machines[bare].log.read_text().splitlines()
    assert lines[:3] == [bare, "us-east-1a", "none"]
    assert "AKIDROLE" not in lines
    assert entry(account, bare).state == "running"  # that its user-data is over ends no instance


def test_an_instance_is_pending_until_it_has_booted(
    account: Account, tmp_path: Path, launch: Callable[..., str]
) -> None:
    now_s = [0.0]
    room = MachineRoom(account, tmp_path, {}, lambda: Credentials("", "", ""), boot_s=40.0, monotonic=lambda: now_s[0])
    room._over.update(entry.id for entry in account.ledger())
    instance = launch(SLEEPS)
    room.turn()
    now_s[0] = 39.0
    room.turn()
    assert (entry(account, instance).state, room.machines) == ("pending", {})
    now_s[0] = 40.0
    room.turn()
    assert entry(account, instance).state == "running"
    room.close()
    assert room.machines[instance].is_empty


@dataclass(frozen=True)
class Silent(Account):
    """Does not answer in time to the first request of each kind, whether or not that arrives."""

    arrives: bool = True
    asked: set[str] = field(default_factory=set)

    def _ask(self, action: str, what: Any = None) -> Any:
        if action in self.asked:
            return super()._ask(action, what)
        self.asked.add(action)
        if self.arrives:
            super()._ask(action, what)
        raise TimeoutError(action)


@pytest.mark.parametrize("arrives", [True, False])
def test_no_answer_loses_neither_a_boot_nor_an_interruption(
    account: Account, tmp_path: Path, launch: Callable[..., str], arrives: bool
) -> None:
    silent = Silent(account.url, arrives)
    room = MachineRoom(
        silent, tmp_path, {SESSION_VARIABLE: os.environ[SESSION_VARIABLE]}, lambda: Credentials("", "", "")
    )
    room._over.update(entry.id for entry in account.ledger())
    instance = launch(SLEEPS, InstanceMarketOptions=SPOT)
    answered: list[bool] = []

    def turn() -> None:
        try:
            room.turn()
            answered.append(True)
        except TimeoutError:
            answered.append(False)

    while answered.count(False) < 2:  # no ledger, and nothing of the boot
        turn()
    turn()
    assert entry(account, instance).state == "running"
    room.interrupt(instance, notice_s=0)
    while answered.count(False) < 4:  # nothing of the interruption, nor of the end
        turn()
    turn()
    assert entry(account, instance).state == "terminated"
    assert entry(account, instance).why.startswith("Server.SpotInstanceTermination")
    assert room.machines[instance].is_empty
    room.close()


def test_terminate_ends_every_process_and_only_then_is_it_terminated(
    room: MachineRoom, account: Account, ec2: Any, launch: Callable[..., str]
) -> None:
    instance, other = launch(SLEEPS), launch(SLEEPS)
    wait_until_busy(room, instance, 3)
    wait_until_busy(room, other, 3)
    ec2.terminate_instances(InstanceIds=[instance])
    wait_for_state(account, instance, "terminated")
    assert room.machines[instance].is_empty
    assert not room.machines[other].is_empty


def test_shutdown_on_the_machine_terminates_the_instance(
    room: MachineRoom, account: Account, launch: Callable[..., str]
) -> None:
    instance = launch("#!/bin/bash\ntrap 'shutdown -h now' EXIT\nfalse\n")
    wait_for_state(account, instance, "terminated")
    assert entry(account, instance).why.startswith("Client.InstanceInitiatedShutdown")


def test_a_timer_outlives_who_set_it_and_ends_the_instance(
    room: MachineRoom, account: Account, launch: Callable[..., str]
) -> None:
    timer = "systemd-run --on-active=1s --unit=last-resort --collect shutdown -h now"
    instance = launch(f"#!/bin/bash\n{timer}\nkill -KILL $$\n")
    wait_for_state(account, instance, "terminated")
    assert entry(account, instance).why.startswith("Client.InstanceInitiatedShutdown")


def test_services_know_what_they_were_told_act_again_and_do_a_last_thing(
    room: MachineRoom, account: Account, launch: Callable[..., str]
) -> None:
    script = (
        "#!/bin/bash\nexport FROM_USER_DATA=yes\n"
        'systemd-run --quiet --unit=tick --on-active=0s --on-unit-active=1s bash -c "echo tick"\n'
        "systemd-run --property=OOMPolicy=continue --setenv=TOLD=yes "
        '--property=ExecStopPost="/usr/bin/env shutdown -h now" '
        "bash -c 'until [ $(grep -c tick $ELASTIC_MACHINE/services.log) -ge 2 ]; do sleep 0.1; done; "
        "echo told=$TOLD inherited=$FROM_USER_DATA at=$ELASTIC_ROOT; exit 3'\n"
    )
    instance = launch(script)
    wait_for_state(account, instance, "terminated")
    machine = room.machines[instance].directory
    lines = (machine / "services.log").read_text().splitlines()
    assert f"told=yes inherited= at={machine / 'elastic'}" in lines
    assert lines.count("tick") >= 2


def test_an_interruption_is_announced_and_then_the_instance_is_taken_back(
    account: Account, tmp_path: Path, launch: Callable[..., str]
) -> None:
    watch = (
        "#!/bin/bash\nendpoint=$AWS_EC2_METADATA_SERVICE_ENDPOINT\n"
        'token=$(curl -s -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" $endpoint/latest/api/token)\n'
        'until curl -sf -H "X-aws-ec2-metadata-token: $token" $endpoint/latest/meta-data/spot/instance-action\n'
        "do sleep 0.1; done\nsleep 600\n"
    )
    now_s = [0.0]
    with running_room(room_of(account, tmp_path, monotonic=lambda: now_s[0])) as room:
        instance = launch(watch, InstanceMarketOptions=SPOT)
        wait_until_busy(room, instance, 1)
        room.interrupt(instance, notice_s=3.0)
        wait_until(lambda: room.machines[instance].log.read_text().endswith("}"), "the notice")
        assert json.loads(room.machines[instance].log.read_text())["action"] == "terminate"
        now_s[0] = 2.9
        room.turn()
        assert entry(account, instance).state == "running"
        now_s[0] = 3.0
        wait_for_state(account, instance, "terminated")
        assert entry(account, instance).why.startswith("Server.SpotInstanceTermination")
        assert room.machines[instance].is_empty


def test_without_notice_it_is_gone_at_once(room: MachineRoom, account: Account, launch: Callable[..., str]) -> None:
    instance = launch(SLEEPS, InstanceMarketOptions=SPOT)
    wait_until_busy(room, instance, 3)
    room.interrupt(instance, notice_s=0)
    wait_for_state(account, instance, "terminated")
    assert room.machines[instance].is_empty


def test_nothing_outlives_a_rehearsal_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import os, sys, time, boto3
from pathlib import Path
from orchestrator.rehearsal.account import running_account
from orchestrator.rehearsal.guard import guarding
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.machine_room import MachineRoom, running_room

root = Path(sys.argv[1])
with guarding(str(root)) as mark, running_account(root / "log") as account:
    room = MachineRoom(account, root, mark, lambda: Credentials("", "", ""))
    with running_room(room):
        ec2 = boto3.client("ec2", endpoint_url=account.url, region_name="us-east-1")
        ec2.run_instances(ImageId="{IMAGE}", InstanceType="g4dn.xlarge", MinCount=1, MaxCount=1, UserData={SLEEPS!r})
        while True:
            time.sleep(1)
"""
    rehearsal = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    try:
        wait_until(lambda: len(marked_processes(str(tmp_path), MARK)) >= 3, "a machine that works")
        children = psutil.Process(rehearsal.pid).children()
        assert len(children) >= 3  # guard, account, user-data
    finally:
        rehearsal.send_signal(signal.SIGKILL)
        rehearsal.wait()
    wait_until(lambda: not marked_processes(str(tmp_path), MARK), "its machines have ended")
    wait_until(lambda: not any(child.is_running() for child in children), "and so have its servers")
