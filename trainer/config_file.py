"""Reading a TrainingConfig from a file."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.config import TrainingConfig, explain
from trainer.errors import ConfigError


def load_config(path: Path) -> TrainingConfig:
    """The run's config from .json, .yaml or .yml; raises ConfigError with every problem of the file in one line."""
    content = _parse(path, _read(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected fields and values, the training section of a job, found {_kind(content)}")
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(explain(error))}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(path: Path, text: str) -> Any:
    if path.suffix not in (".yaml", ".yml"):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not YAML: {error.problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def _kind(content: Any) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
