"""The run directory: the contract between the agent and any trainer.

| piece | who writes | meaning |
|---|---|---|
| `config.json` | agent | the resolved training section of job.yaml |
| `resume/` | agent | the checkpoint to start from; absent on a first start |
| `checkpoints/step-<12 digits>/` | trainer | a whole checkpoint; it appears by rename, so what is there is complete |
| `progress.jsonl` | trainer | a line per `step`; before the first, an `activity` every few seconds; `note`s |
| SIGTERM | agent | finish the step, write a checkpoint, exit 75 |
| exit 0 / 75 | trainer | finished / drained, resume me |
| exit 2 / 4 / other | trainer | cannot be done as asked / would end in the same way again / failed |
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.jobs.instances import TrainerProgress

FINISHED = 0
DRAINED = 75
BAD_INPUT = 2
"""What was asked for cannot be done, as far as the trainer can tell."""
HOPELESS = 4
"""Training went wrong in a way that it would again from the same checkpoint."""
_STEP = re.compile(r"step-(\d{12})")
_LONGEST_ACTIVITY = 300


@dataclass(frozen=True)
class LocalCheckpoint:
    """A whole checkpoint in the run directory."""

    path: Path
    step: int

    @property
    def final(self) -> bool:
        """Whether it is the last of the run: it holds the result."""
        return (self.path / "result.json").exists()

    def files(self) -> list[Path]:
        """Its files, in order. A checkpoint is flat."""
        return sorted(path for path in self.path.iterdir() if path.is_file())


@dataclass(frozen=True)
class RunDirectory:
    """One generation's run directory on this instance."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def resume(self) -> Path:
        return self.path / "resume"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def progress(self) -> Path:
        return self.path / "progress.jsonl"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def prepare(self, config: Mapping[str, Any]) -> None:
        """Make it anew: whatever an earlier try left is removed."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.checkpoints.mkdir(parents=True)
        self.logs.mkdir()
        self.config.write_text(json.dumps(config, indent=2))

    def whole_checkpoints(self) -> list[LocalCheckpoint]:
        """What the trainer has finished writing, oldest first."""
        try:
            names = [path for path in self.checkpoints.iterdir() if _STEP.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        return [LocalCheckpoint(path, int(path.name.removeprefix("step-"))) for path in sorted(names)]

    def rank_logs(self, local_rank: int) -> list[Path]:
        """Where torchrun puts what a rank prints."""
        return sorted(self.logs.glob(f"*/attempt_0/{local_rank}/std*.log"))


class ProgressReader:
    """Follows progress.jsonl: whole lines as they come, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def lines(self) -> Iterator[dict[str, Any]]:
        """The lines that have been completed since the last call; what is not JSON is passed over."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                parsed = json.loads(line)
            except ValueError:
                continue
            if isinstance(parsed, dict):
                yield parsed


def as_progress(line: Mapping[str, Any]) -> TrainerProgress | None:
    """A report of a step, or None if the line is something else (a note, an activity)."""
    if "note" in line:
        return None
    try:
        return TrainerProgress.model_validate(line)
    except ValidationError:
        return None


def as_activity(line: Mapping[str, Any]) -> str | None:
    """What a trainer that has made no step yet says that it does: looking at a large data set, say."""
    activity = line.get("activity")
    return activity[:_LONGEST_ACTIVITY] if isinstance(activity, str) else None
