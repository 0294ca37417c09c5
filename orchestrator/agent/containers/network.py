"""Where the ranks of a generation meet. Pure.

| the generation is on | its ranks meet | what they can reach |
|---|---|---|
| one instance | in a file of the run directory, and on `lo` | nothing |
| several of one machine | in an internal network of their own | each other |
| several machines | in the machines' own network | what the machine can |

All ranks of an instance share the network of the first one. What a provider has a name for is a machine, also where a
rehearsal plays several on this one: their network is its loopback then.
"""

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.jobs.instances import LOOPBACK, Assignment

LEADER = "rank-0"
"""What the others call the first rank's container in a network of their own."""
_INTERFACE = "eth0"
"""A container in one network has one interface beside `lo`, and Docker calls it so."""


@dataclass(frozen=True)
class Meeting:
    """How the ranks of one generation reach each other."""

    kind: Literal["alone", "private", "host"]
    name: str = ""
    """Of a private network."""
    leads: bool = True
    """Whether this is the first node, which makes the private network; the others wait for it."""

    @classmethod
    def of(cls, assignment: Assignment, work_dir: Path) -> "Meeting":
        """Instances of one machine call each other by its loopback address, which no two containers share."""
        if assignment.nodes == 1:
            return cls("alone")
        leads = assignment.node_rank == 0
        if assignment.instance_id or not ipaddress.ip_address(assignment.master_address).is_loopback:
            return cls("host", leads=leads)
        # The work directories of a store's instances lie side by side.
        generation = f"{work_dir.parent}\n{assignment.job}\n{assignment.generation}"
        return cls("private", f"elastic-{hashlib.sha256(generation.encode()).hexdigest()[:16]}", leads)

    @property
    def mode(self) -> str:
        """Docker's network mode for the first rank of an instance."""
        return {"alone": "none", "private": self.name, "host": "host"}[self.kind]

    def environment(self, assignment: Assignment) -> Mapping[str, str]:
        """What the ranks have to know of it."""
        if self.kind == "alone":
            return {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(assignment.master_port)}
        if self.kind == "host":
            return {"MASTER_ADDR": assignment.master_address, "MASTER_PORT": str(assignment.master_port)}
        return {
            "MASTER_ADDR": LEADER,
            "MASTER_PORT": str(assignment.master_port),
            "GLOO_SOCKET_IFNAME": _INTERFACE,
            "NCCL_SOCKET_IFNAME": _INTERFACE,
        }
