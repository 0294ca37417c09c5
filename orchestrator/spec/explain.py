"""What pydantic found wrong with a job.yaml: as `trainer.config` explains it, and which values must not be printed."""

from typing import Any

from pydantic import ValidationError

from orchestrator.spec.models import JobSpec
from orchestrator.spec.places import SecretMisfit
from orchestrator.spec.problems import Path
from trainer import config
from trainer.config import Misfit, Mistake


def mistakes(error: ValidationError, data: Any, spellings: dict[Path, str]) -> list[Mistake]:
    """All mistakes behind an error: `data` is what was validated, `spellings` how its scalars were written."""
    return config.mistakes(error, config.Written(data, JobSpec, "yaml", spellings, _holds_secret))


def _holds_secret(wrong: Misfit | str) -> bool:
    return isinstance(wrong, SecretMisfit) or wrong == "env_secret"
