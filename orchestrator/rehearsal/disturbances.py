"""What is to go wrong in a rehearsal, when, and to which instance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.rehearsal.account import LedgerEntry


class Kind(StrEnum):
    """What goes wrong."""

    INTERRUPTION = "interruption with notice"
    INTERRUPTION_WITHOUT_NOTICE = "interruption without notice"
    CONTROLLER_KILLED = "controller killed"


@dataclass(frozen=True)
class Disturbance:
    """One thing that goes wrong, so long after the submit or as soon after it as there is an instance for it."""

    kind: Kind
    at_s: float


def due(disturbances: Iterable[Disturbance], elapsed_s: float) -> list[Disturbance]:
    """Those whose time has come, in the order of their times."""
    return sorted((d for d in disturbances if d.at_s <= elapsed_s), key=lambda d: (d.at_s, d.kind))


def victim(kind: Kind, ledger: Sequence[LedgerEntry], spared: Iterable[str]) -> LedgerEntry | None:
    """The instance that is interrupted: of those that run, the one that was launched first; None: none can be now.

    EC2 announces interruptions of spot instances only; any other can break. `spared` are under notice already.
    """
    known = set(spared)
    running = [entry for entry in ledger if entry.state == "running" and entry.id not in known]
    spot = [entry for entry in running if entry.market == "spot"]
    possible = spot if kind is Kind.INTERRUPTION else spot or running
    return min(possible, key=lambda entry: entry.launched_at, default=None)
