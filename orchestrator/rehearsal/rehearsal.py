"""One rehearsal: account, bucket, machine room and controller, set up by the commands that a person would use."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.fleets.ec2.sightings import INSTANCE_TAG
from orchestrator.rehearsal.account import REGION, Account, running_account
from orchestrator.rehearsal.bill import Bill, bill_of
from orchestrator.rehearsal.controller_process import PROGRAM, ControllerProcess
from orchestrator.rehearsal.disturbances import Disturbance, Kind, due, victim
from orchestrator.rehearsal.guard import guarding
from orchestrator.rehearsal.image import elastic_installed
from orchestrator.rehearsal.imds import Credentials
from orchestrator.rehearsal.machine_room import NOTICE_S, MachineRoom, running_room
from orchestrator.rehearsal.missing import require_parts
from orchestrator.rehearsal.person import BUCKET, STORE_URL, Person
from orchestrator.rehearsal.refusals import Shortages
from orchestrator.rehearsal.seaweed import Identity, running_seaweed
from orchestrator.rehearsal.turning import Health, turning

BOOT_S = 5.0
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Conditions:
    """The cloud that a job is rehearsed in."""

    region: str = REGION
    zones: tuple[str, ...] = ()
    """Those with a subnet; without any all of the region."""
    boot_s: float = BOOT_S
    notice_s: float = NOTICE_S
    """Between the notice of an interruption and the interruption."""
    shortages: Shortages = field(default_factory=Shortages)
    disturbances: tuple[Disturbance, ...] = ()


@dataclass
class Rehearsal:
    """A running one. `turn` has to be called again and again once the job is submitted."""

    conditions: Conditions
    environ: Mapping[str, str]
    """What leads a process to this cloud and to no other."""
    account: Account
    room: MachineRoom
    controller: ControllerProcess
    health: Health
    monotonic: Callable[[], float] = time.monotonic
    done: list[tuple[float, str]] = field(default_factory=list)
    """What has gone wrong, by plan: when, and what."""
    _began_at_s: float | None = field(default=None)
    _interrupted: set[str] = field(default_factory=set)
    _left: list[Disturbance] = field(default_factory=list)

    def begin(self) -> None:
        """From now on the time of the disturbances runs."""
        self._began_at_s, self._left = self.monotonic(), list(self.conditions.disturbances)

    def turn(self) -> None:
        """Do what is due: let go wrong what is planned, and have the controller come back."""
        if self._began_at_s is None:
            return
        elapsed_s = self.monotonic() - self._began_at_s
        for disturbance in due(self._left, elapsed_s):
            if what := self._carry_out(disturbance.kind):
                self._left.remove(disturbance)
                self.done.append((elapsed_s, what))
        self.controller.turn()

    def living(self) -> int:
        """How many instances are not over yet."""
        return sum(entry.state not in ("terminated", "stopped") for entry in self.account.ledger())

    def wait_until_ended(self, bound_s: float) -> int:
        """Wait until no instance lives any more; gives how many still do after the bound. Raises RehearsalBroken."""
        give_up_s = self.monotonic() + bound_s
        while (living := self.living()) and self.monotonic() < give_up_s:
            self.health.sleep(LOOK_EVERY_S)
        return living

    def bill(self) -> Bill:
        """What it would have cost until now."""
        return bill_of(self.account.ledger(), datetime.now(UTC))

    def _carry_out(self, kind: Kind) -> str:
        """Let it go wrong; gives what has been done, nothing if it cannot be yet."""
        if kind is Kind.CONTROLLER_KILLED:
            if not self.controller.alive:
                return ""
            self.controller.kill()
            return f"{kind}; back after {self.controller.back_after_s:g} s"
        found = victim(kind, self.account.ledger(), self._interrupted)
        if found is None:
            return ""
        self._interrupted.add(found.id)
        notice_s = self.conditions.notice_s if kind is Kind.INTERRUPTION else 0.0
        self.room.interrupt(found.id, notice_s)
        name = found.tags.get(INSTANCE_TAG, found.id)
        return f"{kind}: {name} in {found.zone}" + (f", taken back {notice_s:g} s later" if notice_s else "")


@contextmanager
def rehearsing(
    conditions: Conditions,
    directory: Path,
    environ: Mapping[str, str],
    tell: Callable[[str], None],
    machine_environ: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
    engine: Mapping[str, str] | None = None,
) -> Iterator[Rehearsal]:
    """Set all of it up below a directory, and end all of it.

    Raises MissingParts, ServerDown, UsageError; ContainersLeft at the end.

    `machine_environ`: what the machines' processes have in their environment besides what every instance has;
    `program`: what is run as `elastic` for the controller. `engine`: what leads to the Docker engine that runs workers
    in containers; None: they are processes.
    """
    require_parts()
    with ExitStack() as stack:
        mark = stack.enter_context(guarding(str(directory), engine))
        tell("Starting an account on loopback: EC2, IAM, CloudFormation")
        account = stack.enter_context(running_account(directory / "account.log"))
        person, role = Person.of(account, conditions.region), Credentials("AKIDROLE", secrets.token_hex(20), "")
        tell("Starting a bucket on loopback")
        s3 = stack.enter_context(running_seaweed(_identities(person.credentials, role)))
        person.client("s3", s3).create_bucket(Bucket=BUCKET)
        here = {**person.environ(environ, s3), **mark}
        tell("Setting the account up: elastic bootstrap")
        person.bootstrap(conditions.zones, here)
        person.enforce_rights()
        account.set_shortages(conditions.shortages)
        key = person.package_key(s3)
        room = MachineRoom(
            account,
            directory / "machines",
            {**mark, **(machine_environ or {})},
            lambda: role,
            boot_s=conditions.boot_s,
            image=lambda machine: elastic_installed(machine, key),
            engine=engine,
        )
        health = Health()
        stack.enter_context(running_room(room, health))
        controller = ControllerProcess(STORE_URL, here, directory / "controller.log", program)
        stack.callback(controller.close)
        controller.start()
        rehearsal = Rehearsal(conditions, here, account, room, controller, health)
        stack.enter_context(turning("disturbances", rehearsal.turn, LOOK_EVERY_S, health))
        yield rehearsal


def _identities(person: Credentials, role: Credentials) -> list[Identity]:
    return [
        Identity("person", person.access_key, person.secret_key),
        Identity("instances", role.access_key, role.secret_key, ("Read", "Write", "List")),
    ]
