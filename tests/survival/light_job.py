"""A job whose ranks are the light trainer: everything around it is real, and no rank has to start torch."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.survival.light import trainer

STEPS = 6000
"""More than it makes before it is let go: it is never in a hurry, and the test never late."""


@dataclass(frozen=True)
class LightJob:
    """Its ledger and its gate lie in this directory."""

    directory: Path

    @property
    def changes(self) -> dict[str, Any]:
        """What job.yaml has instead of the other tests' values."""
        training = {"dataset": "digits", "labels": 50, "steps": STEPS, "batch": 16, "labelled_batch": 8, "shards": 2}
        environ = {
            "PYTHONPATH": str(Path(trainer.__file__).parent),
            "PYTHONSAFEPATH": "1",  # or the trainer in the directory where the agent happens to be comes first
            "LIGHT_LEDGER": str(self._ledger),
            "LIGHT_GATE": str(self._gate),
            "LIGHT_BUSY": str(self._busy),
            "LIGHT_HOLD": str(self._hold),
        }
        return {"training": training, "resources": {"ladder": [{"workers": 1}, {"workers": 2}], "env": environ}}

    def let_finish(self) -> None:
        """Make the rest of the steps at once."""
        self._gate.touch()

    def hold(self) -> None:
        """Do not begin: its first step never comes."""
        self._hold.touch()

    def keep_busy(self, busy: bool = True) -> None:
        """From now on each rank keeps its core busy, or does hardly anything."""
        if busy:
            self._busy.touch()
        else:
            self._busy.unlink()

    @property
    def result(self) -> str:
        """The digest that it has to end with."""
        return trainer.digest_after(STEPS)

    def steps(self) -> list[int]:
        """The steps that ranks have made, in their order."""
        return [entry["number"] for entry in self._entries("step")]

    def processes(self) -> list[tuple[str, int]]:
        """The ranks that were ever started: run directory and rank."""
        return [(Path(entry["run"]).name, entry["rank"]) for entry in self._entries("process")]

    def _entries(self, what: str) -> list[dict[str, Any]]:
        text = self._ledger.read_text() if self._ledger.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may be on its way
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]

    @property
    def _ledger(self) -> Path:
        return self.directory / "ledger"

    @property
    def _busy(self) -> Path:
        return self.directory / "busy"

    @property
    def _hold(self) -> Path:
        return self.directory / "hold"

    @property
    def _gate(self) -> Path:
        return self.directory / "gate"
