"""A job.yaml, with `--set` overrides, to a `JobSpec`: or everything that is wrong with it, each with its line.

pydantic stops early: a model whose fields are wrong is never asked whether they fit together. So a file with mistakes
is checked in rounds: what is wrong is noted and repaired with a default, and the rest is checked again. What a later
round finds in a repaired field would be the repair's fault, and is left out.
"""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from orchestrator.spec.document import Document, read_yaml
from orchestrator.spec.explain import mistakes
from orchestrator.spec.models import JobSpec
from orchestrator.spec.overrides import apply_name, apply_override
from orchestrator.spec.problems import Path, Problem, Span, SpecError, dotted
from trainer.config import Mistake

# A job.yaml has a few kilobytes; more is some other file.
_MAX_FILE_BYTES = 1_000_000
_MAX_ROUNDS = 8
# What stands in for a required field that is missing, while the rest is checked.
_STAND_IN: dict[str, Any] = {"name": "job", "training": {"epochs": 1}}


def load_job(
    source: FilePath | str, overrides: Sequence[str] = (), name: str = "job.yaml", job_name: str | None = None
) -> JobSpec:
    """The job that a file (a `Path`) or a text (a `str`, called `name` in messages) describes.

    Each override is 'FIELD=VALUE', such as 'training.seed=3'; `job_name`, from --name, is text as it stands.
    Raises SpecError with every problem that was found.
    """
    if isinstance(source, FilePath):
        name, source = str(source), _read_file(source)
    document = read_yaml(source, name)
    if document.broken:
        raise SpecError(document.problems)
    if not isinstance(document.data, dict):
        is_empty = document.data is None
        message = "is empty" if is_empty else "must be a mapping of fields, beginning with 'name: my-job'"
        raise SpecError([Problem(name, f"{message}; `elastic init` writes a job.yaml to start from")])
    for override in overrides:
        apply_override(document, override)
    if job_name is not None:
        apply_name(document, job_name)
    spec, found = _check(document)
    problems = document.problems + [_without_secrets(_located(each, document), each, found, document) for each in found]
    if problems or spec is None:
        # The file's own problems in the order of its lines, then those of the command line.
        raise SpecError(sorted(problems, key=lambda problem: (problem.span is None, problem.span or 0)))
    return spec


def _read_file(path: FilePath) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise SpecError([Problem(str(path), f"no such file{_near_files(path)}")]) from None
    except IsADirectoryError:
        raise SpecError(
            [Problem(str(path), f"is a directory, not a job.yaml{_near_files(path / 'job.yaml')}")]
        ) from None
    except OSError as error:
        raise SpecError([Problem(str(path), f"cannot be read: {error.strerror}")]) from None
    if len(body) > _MAX_FILE_BYTES:
        raise SpecError([Problem(str(path), f"is no job.yaml: more than {_MAX_FILE_BYTES // 1000} kB")])
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text: byte 0x{body[error.start]:02x} in line {line}; save it as UTF-8"
        raise SpecError([Problem(str(path), message)]) from None


def _near_files(path: FilePath) -> str:
    """' (did you mean ...?)' for a file beside the one that is not there."""
    try:
        beside = {file.name: file for file in path.parent.iterdir() if file.suffix in {".yaml", ".yml"}}
    except OSError:
        return f"; there is no directory {path.parent} either" if not path.parent.exists() else ""
    close = get_close_matches(path.name, beside, n=1)
    return f" (did you mean {beside[close[0]]}?)" if close else ""


def _check(document: Document) -> tuple[JobSpec | None, list[Mistake]]:
    """The spec and no mistakes, or all mistakes that rounds of checking and repairing find."""
    data = deepcopy(document.data)
    spellings = {path: place.spelling for path, place in document.places.items()}
    found: list[Mistake] = []
    repaired: set[Path] = set()
    for _ in range(_MAX_ROUNDS):
        try:
            # JSON is what people's values come as: in it a list is a tuple, and a duration has its unit.
            spec = JobSpec.model_validate_json(json.dumps(data))
        except ValidationError as error:
            round_ = mistakes(error, data, spellings)
            fresh = [mistake for mistake in round_ if not any(_overlap(field, repaired) for field in mistake.fields)]
            found += fresh
            # When only consequences of repairs are left, whatever takes part in them is repaired too.
            for field in [m.fields[0] for m in fresh] or [field for m in round_ for field in m.fields]:
                _repair(data, field)
                repaired.add(field)
            # The value of a misspelt field is still to come: the default in its place proves nothing.
            repaired.update(m.fields[-1] for m in fresh if m.kind == "unknown" and m.fields[-1] not in spellings)
        else:
            return (None, found) if found else (spec, [])
    return None, found


def _overlap(field: Path, repaired: set[Path]) -> bool:
    """Whether a field is, holds, or lies within one that was repaired."""
    return any(field[: len(other)] == other[: len(field)] for other in repaired)


def _repair(data: Any, path: Path) -> None:
    """Take a bad value away, so that its default holds; put a stand-in where a required one is missing."""
    stand_in: Any = _STAND_IN
    for part in path[:-1]:
        stand_in = stand_in.get(part, {}) if isinstance(stand_in, dict) else {}
        if isinstance(data, dict):
            data = data.setdefault(part, {})
        elif isinstance(data, list):
            data = data[int(part)]
    if not path:
        return  # wrong with the whole: no part of it can be left out
    last = path[-1]
    if isinstance(data, list):
        data[int(last)] = "program" if path[:-1] == ("command",) else {}
    elif not isinstance(data, dict):
        return
    elif last in data:
        del data[last]
    elif last in stand_in:
        data[last] = deepcopy(stand_in[last])


def _located(mistake: Mistake, document: Document) -> Problem:
    """The mistake with its line, or with the `--set` argument that caused it."""
    path = mistake.fields[0]
    culprit = next(
        (field for field in mistake.fields if field in document.places and document.places[field].origin), path
    )
    nearest = culprit
    while nearest and nearest not in document.places:
        nearest = nearest[:-1]
    if nearest not in document.places:
        return Problem(document.source, mistake.message)
    place = document.places[nearest]
    if place.origin:
        origin = f"{place.origin.partition('=')[0]}=..." if mistake.is_secret else place.origin
        names_it = place.origin.startswith((f"--set {dotted(path)}=", f"--{dotted(path)} "))
        return Problem(origin, mistake.message, "" if names_it else dotted(path))
    span = place.value if mistake.kind == "value" and nearest == path else place.key
    line = document.text.splitlines()[span.line - 1]
    if mistake.is_secret and span == place.key != place.value:
        line = f"{line[: span.column - 1 + span.width]}: ..."
    elif mistake.is_secret:
        span = Span(span.line, span.column, width=3)
        line = f"{line[: span.column - 1]}..."
    return Problem(document.source, mistake.message, dotted(path), span, line)


def _without_secrets(problem: Problem, mistake: Mistake, found: Sequence[Mistake], document: Document) -> Problem:
    """The same, though its line may also hold what another mistake says must not be printed."""
    line = problem.line
    for other in found:
        place = document.places.get(other.fields[0])
        if other is mistake or not other.is_secret or place is None or problem.span is None:
            continue
        start, end = place.value.column - 1, place.value.column - 1 + place.value.width
        if place.value.line == problem.span.line:
            line = line[:start] + "*" * len(line[start:end]) + line[end:]
    return replace(problem, line=line)
