"""Reading a TrainingConfig from a file."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.config import FieldPath, TrainingConfig, Written, dotted, explain
from trainer.errors import ConfigError, printable

_YAML = (".yaml", ".yml")
_KINDS = {"NoneType": "nothing", "str": "text", "int": "a number", "float": "a number", "bool": "true or false"}


def load_config(path: Path) -> TrainingConfig:
    """The run's config from .json, .yaml or .yml; raises ConfigError with every problem of the file in one line."""
    try:
        return _checked(path, _parse(path, _read(path)))
    except ConfigError as error:
        raise ConfigError(printable(str(error))) from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply to be the training section of a job") from None
    except ValueError:  # of Python's int, both ways
        raise ConfigError(f"{path}: a number in it has too many digits to be read") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _parse(path: Path, text: str) -> Any:
    return _parse_yaml(path, text) if path.suffix in _YAML else _parse_json(path, text)


def _parse_json(path: Path, text: str) -> Any:
    try:
        content = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    twice: list[FieldPath] = []
    plain = _plain(content, (), twice)
    if twice:
        told = [f"{dotted(field)}: given more than once; keep one" for field in twice]
        raise ConfigError(f"{path}: {'; '.join(told)}")
    return plain


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written: of a field that is given twice, a dict would keep the last without a word."""


def _plain(content: Any, path: FieldPath, twice: list[FieldPath]) -> Any:
    """What JSON holds, with dicts for its objects; the fields that are given again are added to `twice`."""
    if isinstance(content, _Pairs):
        data: dict[str, Any] = {}
        for name, value in content:
            if name in data and (*path, name) not in twice:
                twice.append((*path, name))
            data[name] = _plain(value, (*path, name), twice)
        return data
    if isinstance(content, list):
        return [_plain(value, (*path, i), twice) for i, value in enumerate(content)]
    return content


def _parse_yaml(path: Path, text: str) -> Any:
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
    except (ValueError, KeyError):  # of what constructs a scalar: it looks like a number or a date, or is tagged so
        raise ConfigError(
            f"{path}: a number or date in it cannot be read; correct it, or quote it if it is text"
        ) from None


def _checked(path: Path, content: Any) -> TrainingConfig:
    if not isinstance(content, dict):
        kind = _KINDS.get(type(content).__name__, f"a {type(content).__name__}")
        raise ConfigError(f"{path}: expected fields and values, the training section of a job, found {kind}")
    if isinstance(content.get("training"), dict):
        raise ConfigError(
            f"{path}: this is a whole job, and the trainer wants its training section alone; "
            "write what is under training into a file of its own, .json, .yaml or .yml"
        )
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        written = Written(content, TrainingConfig, "yaml" if path.suffix in _YAML else "json")
        raise ConfigError(f"{path}: {'; '.join(explain(error, written))}") from None
