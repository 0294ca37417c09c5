"""What pydantic found wrong with a configuration, in sentences for a person who looks at what they wrote.

The orchestrator explains a whole job.yaml by these too, with the line of each mistake; the trainer has no lines.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from trainer.config.base import FieldPath, Misfit

Notation = Literal["yaml", "json"]
"""What a configuration was written in, and so how it is to be mended."""

# pydantic's names of errors, and what to say.
_SENTENCES = {
    "too_short": "must have at least one entry",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
    "string_unicode": "has an escape that is no character",
}
_SHAPES: dict[Notation, dict[str, str]] = {
    "yaml": {
        "model_type": "must be a mapping of fields, each on a line of its own as 'name: value'",
        "dict_type": "must be a mapping, each entry on a line of its own as 'name: value'",
        "tuple_type": "must be a list, each entry on a line of its own after '- '",
        "list_type": "must be a list, each entry on a line of its own after '- '",
    },
    "json": {
        "model_type": 'must be an object of fields, such as {"name": value}',
        "dict_type": 'must be an object, such as {"name": value}',
        "tuple_type": "must be a list, such as [value, value]",
        "list_type": "must be a list, such as [value, value]",
    },
}
_RELATIONS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
_NUMBERS = {"int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number"}
_BOOLEAN_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


@dataclass(frozen=True)
class Mistake:
    """A problem that knows its field but not yet its line.

    `fields` are all fields that take part, the one to blame first. `kind` says what is wrong with that one: there is no
    such field (the second of `fields` was probably meant), it is not there, its value is bad, or its name is.
    """

    fields: tuple[FieldPath, ...]
    kind: Literal["unknown", "missing", "value", "name"]
    message: str
    is_secret: bool = False
    """The value must not be printed."""


@dataclass(frozen=True)
class Written:
    """What somebody wrote, as it was validated.

    spellings: of scalars, by their paths. holds_secret: whether a misfit, or pydantic's name of an error, is about a
    value that must not be printed.
    """

    data: Any
    model: type[BaseModel]
    notation: Notation
    spellings: Mapping[FieldPath, str] = field(default_factory=dict)
    holds_secret: Callable[[Misfit | str], bool] = lambda _: False


def explain(error: ValidationError, written: Written) -> list[str]:
    """Each mistake as 'field: what is wrong', for those who have no line to point at."""
    told = ((dotted(found.fields[0]), found.message) for found in mistakes(error, written))
    return [f"{path}: {message}" if path else message for path, message in told]


def mistakes(error: ValidationError, written: Written) -> list[Mistake]:
    """All mistakes behind an error, one for each field."""
    found: dict[FieldPath, Mistake] = {}
    words: dict[FieldPath, list[str]] = {}
    for problem in error.errors(include_url=False):
        path = _path_in(written.data, tuple(problem["loc"]), may_be_absent=problem["type"] == "missing")
        if problem["type"] == "too_short" and problem["input"]:
            continue  # the list has entries, but bad ones, and they are reported
        if problem["type"] == "misfits":
            for misfit in problem["ctx"]["misfits"]:
                fields = tuple((*path, *relative) for relative in misfit.fields)
                found.setdefault(fields[0], Mistake(fields, "value", misfit.message, written.holds_secret(misfit)))
        elif path not in found:
            found[path] = _single_mistake(path, dict(problem), written)
        elif problem["type"] == "literal_error":
            words.setdefault(path, []).extend(_choices(problem["ctx"]))
    # Each branch of a union complains about the same value: the first says it, the words of the others are added.
    for path, choices in words.items():
        found[path] = replace(
            found[path], message=_or_words(found[path].message, choices, _value_at(written.data, path))
        )
    meant = {mistake.fields[-1] for mistake in found.values() if mistake.kind == "unknown"}
    # A required field whose name is misspelt is not missing as well.
    return [mistake for mistake in found.values() if mistake.kind != "missing" or mistake.fields[0] not in meant]


def _value_at(data: Any, path: FieldPath) -> Any:
    for part in path:
        data = data[part]
    return data


def _or_words(message: str, choices: list[str], value: Any) -> str:
    """What the other branches of a union take, after what the first would: 'must be a whole number or 'auto''."""
    if get_close_matches(str(value).lower(), choices, n=1):
        return _not_among(choices, value)
    first, semicolon, rest = message.partition(";")
    return f"{first} or {_listed(choices)}{semicolon}{rest}"


def _path_in(data: Any, loc: FieldPath, *, may_be_absent: bool) -> FieldPath:
    """pydantic's location without what it adds: tags of unions, '[key]' for a mapping's key."""
    path: FieldPath = ()
    for i, part in enumerate(loc):
        is_named = isinstance(data, dict) and (part in data or (may_be_absent and i == len(loc) - 1))
        is_field = is_named and part != "[key]"
        is_item = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if is_field or is_item:
            path = (*path, part)
            data = data.get(part) if isinstance(data, dict) else data[int(part)]
    return path


def _single_mistake(path: FieldPath, problem: dict[str, Any], written: Written) -> Mistake:
    kind = problem["type"]
    if kind == "extra_forbidden":
        also = _meant_field(path, written.model)
        return Mistake((path, also) if also else (path,), "unknown", _unknown(path, also, written.model))
    if kind == "missing":
        return Mistake((path,), "missing", "required field is missing")
    if kind == "invalid_key":
        return Mistake((path,), "name", "a field's name must be text")
    message = _sentence(kind, problem, written.notation, written.spellings.get(path, ""))
    if problem["loc"][-1:] == ("[key]",):
        return Mistake((path,), "name", message, written.holds_secret(kind))
    return Mistake((path,), "value", message)


def _sentence(kind: str, problem: dict[str, Any], notation: Notation, spelling: str) -> str:
    value, ctx = problem["input"], problem.get("ctx", {})
    if value is None:
        return "has no value"
    if said := _SENTENCES.get(kind) or _SHAPES[notation].get(kind):
        return said
    if kind in _RELATIONS:
        bound = next(iter(ctx.values()))
        return f"must be {_RELATIONS[kind]} {bound if isinstance(bound, int) else format(bound, 'g')}"
    if kind in _NUMBERS:
        return _not_number(_NUMBERS[kind], value, spelling)
    if kind == "string_type":
        return _not_text(value, notation, spelling)
    if kind == "bool_type":
        return _not_boolean(value, notation)
    if kind == "literal_error":
        return _not_among(_choices(ctx), value)
    return str(problem["msg"]).replace("Input should ", "must ", 1)


def _not_boolean(value: Any, notation: Notation) -> str:
    said = str(value).lower()
    word = said if isinstance(value, str) and said in _BOOLEAN_WORDS.values() else _BOOLEAN_WORDS.get(said)
    if word is None:
        return "must be true or false"
    if word == said or notation == "json":
        return f"must be true or false; write {word} without quotes"
    return f"must be true or false; YAML 1.2 reads {value} as text, write {word}"


def _not_text(value: Any, notation: Notation, spelling: str) -> str:
    if isinstance(value, dict | list):
        mapping = "a mapping" if notation == "yaml" else "an object"
        return f"must be text, not {mapping if isinstance(value, dict) else 'a list'}"
    if notation == "json":
        return f'must be text; write it in quotes: "{json.dumps(value)}"'
    reads = "true or false" if isinstance(value, bool) else "a number" if isinstance(value, int | float) else "a date"
    written = spelling or str(value)
    return f"must be text, but YAML reads {written} as {reads}; quote it: '{written}'"


def _not_number(wanted: str, value: Any, spelling: str) -> str:
    if isinstance(value, float) and value.is_integer():
        return f"must be {wanted}; write {value:.0f} for {spelling or value}"
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value, re.IGNORECASE):
        return f"must be {wanted}; write it without quotes"
    return f"must be {wanted}"


def _choices(ctx: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", ctx["expected"])


def _not_among(choices: list[str], value: Any) -> str:
    close = get_close_matches(str(value).lower(), choices, n=1)
    if close:
        return f"no such value '{value}' (did you mean '{close[0]}'?)" + _others(choices, close[0])
    return f"must be {_listed(choices)}"


def _others(choices: list[str], meant: str) -> str:
    rest = [choice for choice in choices if choice != meant]
    return f"; there is also {_listed(rest, 'and')}" if rest else ""


def _listed(words: list[str], last: str = "or") -> str:
    quoted = [f"'{word}'" for word in words]
    return " ".join([", ".join(quoted[:-1]), last, quoted[-1]]) if len(quoted) > 1 else quoted[0]


def _unknown(path: FieldPath, meant: FieldPath | None, root: type[BaseModel]) -> str:
    if path[-1] == "<<":
        return "YAML 1.2 has no merge keys; repeat the fields"
    if meant:
        return f"unknown field (did you mean '{meant[-1] if meant[:-1] == path[:-1] else dotted(meant)}'?)"
    fields = [name for model in _models_at(path[:-1], root) for name in model.model_fields]
    return f"unknown field; there are {', '.join(fields)}" if fields else "unknown field"


def _meant_field(path: FieldPath, root: type[BaseModel]) -> FieldPath | None:
    """The field that an unknown one was probably meant to be: a near spelling beside it, or the same name elsewhere."""
    name = str(path[-1]).lower().replace("-", "_")
    beside = [field for model in _models_at(path[:-1], root) for field in model.model_fields]
    if close := get_close_matches(name, beside, n=1):
        return (*path[:-1], close[0])
    elsewhere = [field for field in _all_fields(root, ()) if field[-1] == name]
    return elsewhere[0] if len(elsewhere) == 1 else None


def _all_fields(model: type[BaseModel], path: FieldPath) -> Iterator[FieldPath]:
    for name, info in model.model_fields.items():
        yield (*path, name)
        # Fields of list entries have no path of their own without a number: they are not suggested.
        if get_origin(info.annotation) in (None, UnionType):
            for inner in models_in(info.annotation):
                yield from _all_fields(inner, (*path, name))


def _models_at(path: FieldPath, root: type[BaseModel]) -> list[type[BaseModel]]:
    """The model, or for a union the models, whose fields a path leads to."""
    models = [root]
    for part in path:
        if isinstance(part, str):
            infos = [model.model_fields[part] for model in models if part in model.model_fields]
            models = [model for info in infos for model in models_in(info.annotation)]
    return models


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type mentions: itself, a union's, a list's entries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def dotted(path: FieldPath) -> str:
    """A path as people write it: augmentation.flip."""
    return ".".join(map(str, path))
