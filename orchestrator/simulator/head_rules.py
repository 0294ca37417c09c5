"""Invariants of a job's head and its checkpoints, looked at after each change of the bucket.

- The head's epoch and generation never go back, each version follows the one before, and only the generation that has
  sealed it moves its checkpoint; its step goes back only from a checkpoint that was found damaged.
- The head never names a missing or altered checkpoint, and none that is being read is removed.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json

from orchestrator.jobs import layout
from orchestrator.simulator.violation import Violation
from orchestrator.store.memory import MemoryStore


@dataclass
class _Known:
    """The last version of a head."""

    head: dict[str, Any]
    damaged: set[str] = field(default_factory=set)
    """Checkpoints that were altered where they lay: a fault of the run, not of what is tested."""


class HeadRules:
    """Follows the heads of all jobs."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._known: dict[str, _Known] = {}
        self.readers: dict[str, str] = {}
        """Who reads which checkpoint now, having seen after the pin that it is there."""

    def head_of(self, job: str) -> dict[str, Any]:
        """The head as it is; empty before there is one."""
        known = self._known.get(job)
        return known.head if known else {}

    def damage(self, job: str, checkpoint: str) -> None:
        """A checkpoint has been altered where it lies."""
        self._known.setdefault(job, _Known({})).damaged.add(checkpoint)

    def is_damaged(self, job: str, checkpoint: str) -> bool:
        return job in self._known and checkpoint in self._known[job].damaged

    def head_written(self, by: str, job: str, body: bytes | None) -> None:
        """A new version of the head."""
        if body is None:
            raise Violation("a head is never removed", f"{by} removed that of {job}")
        new: dict[str, Any] = from_json(body)
        known = self._known.setdefault(job, _Known({}))
        old = known.head
        known.head = new
        if not old:
            if new["seq"] != 1 or new["checkpoint"] is not None:
                raise Violation("a first head names no checkpoint", f"{by}: {new}")
            return
        self._check_follows(by, job, old, new)
        if new["checkpoint"] != old["checkpoint"]:
            self._check_move(by, job, known, old, new)

    def _check_follows(self, by: str, job: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        if new["seq"] != old["seq"] + 1:
            raise Violation("each head follows the one before", f"{by}: {job} went from {old} to {new}")
        for counter in ("epoch", "generation"):
            if new[counter] < old[counter]:
                raise Violation(f"the head's {counter} never goes back", f"{by}: {job} went from {old} to {new}")

    def _check_move(self, by: str, job: str, known: _Known, old: dict[str, Any], new: dict[str, Any]) -> None:
        if (new["epoch"], new["generation"]) != (old["epoch"], old["generation"]):
            raise Violation("a seal keeps the checkpoint", f"{by}: {job} went from {old} to {new}")
        if len(new["rejected"]) > len(old["rejected"]):
            if old["checkpoint"] not in known.damaged:
                raise Violation("only a damaged checkpoint is rejected", f"{by}: {job} went from {old} to {new}")
            return
        if new["step"] < old["step"]:
            raise Violation("the head's step never goes back", f"{by}: {job} went from {old} to {new}")
        name = new["checkpoint"].rstrip("/").rpartition("/")[2]
        parsed = layout.parse_checkpoint(name)
        if parsed is None or parsed[1] != new["generation"]:
            raise Violation("one generation commits", f"{by}: {job} went from {old} to {new}")
        self._check_whole(by, job, new["checkpoint"])

    def _check_whole(self, by: str, job: str, checkpoint: str) -> None:
        """A checkpoint that has just become the head is all there, as its manifest says."""
        manifest = self._store.get(layout.manifest_key(checkpoint))
        if manifest is None:
            raise Violation("the head names a whole checkpoint", f"{by}: {job}: {checkpoint} has no manifest")
        for file in from_json(manifest.body)["files"]:
            found = self._store.get(checkpoint + file["name"])
            if found is None:
                raise Violation("the head names a whole checkpoint", f"{by}: {checkpoint}{file['name']} is missing")
            if hashlib.sha256(found.body).hexdigest() != file["sha256"]:
                raise Violation("the head names a whole checkpoint", f"{by}: {checkpoint}{file['name']} is altered")

    def checkpoint_changed(self, by: str, job: str, key: str, body: bytes | None) -> None:
        """An object of a checkpoint was written or removed."""
        prefix = key[: key.rindex("/") + 1]
        head = self.head_of(job)
        if head and head["checkpoint"] == prefix:
            if body is None and not self.is_damaged(job, prefix):
                raise Violation("the head's checkpoint is never removed", f"{by} removed {key}")
            self._check_same(by, key, body)
        if body is None and prefix in self.readers.values() and not self.is_damaged(job, prefix):
            raise Violation("a checkpoint that is being read is never removed", f"{by} removed {key}")

    def _check_same(self, by: str, key: str, body: bytes | None) -> None:
        if body is None or key.endswith("manifest.json"):
            return
        manifest = self._store.get(layout.manifest_key(key[: key.rindex("/") + 1]))
        wanted = {f["name"]: f["sha256"] for f in from_json(manifest.body)["files"]} if manifest else {}
        name = key.rpartition("/")[2]
        if wanted.get(name, "") != hashlib.sha256(body).hexdigest():
            raise Violation("the head's checkpoint is never altered", f"{by} wrote {key}")
