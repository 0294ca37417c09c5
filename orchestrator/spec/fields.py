"""The fields of job.yaml as a list to read: what the template and the reference are written from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.spec.schema import job_schema
from orchestrator.spec.units import DURATION_PATTERN, SIZE_PATTERN


@dataclass(frozen=True)
class FieldFacts:
    """One field: its name, what it may hold, what it is when left out, and what it means."""

    name: str
    values: str
    meaning: str
    default: Any = None
    example: Any = None
    is_required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A mapping of job.yaml: its own fields first, then the mappings within it."""

    path: str
    """Dotted; empty for the whole file, ending in [] for the entries of a list."""
    meaning: str
    fields: tuple[FieldFacts, ...]
    sections: tuple["Section", ...]
    is_optional: bool = False
    """Whether it is absent by default, not merely left with its fields' defaults."""

    def walk(self) -> Iterator["Section"]:
        """This section and all within it, in the order of a file."""
        yield self
        for section in self.sections:
            yield from section.walk()


def job_fields() -> Section:
    """The whole of job.yaml."""
    schema = job_schema()
    return _section("", schema, schema["$defs"])


def _section(path: str, schema: dict[str, Any], definitions: dict[str, Any], is_optional: bool = False) -> Section:
    fields, sections = [], []
    for name, field in schema["properties"].items():
        child = f"{path}.{name}".lstrip(".")
        if reference := _reference(field):
            inner = _definition(reference, definitions)
            sections.append(_section(child, inner, definitions, is_optional="anyOf" in field))
            continue
        fields.append(_field(name, field, name in schema.get("required", [])))
        if reference := _reference(field.get("items", {})):
            sections.append(_section(f"{child}[]", _definition(reference, definitions), definitions))
    return Section(path, schema["description"], tuple(fields), tuple(sections), is_optional)


def _reference(field: dict[str, Any]) -> str:
    """Where a section is defined, also one that may be left out; empty for any other field."""
    return next((branch["$ref"] for branch in _branches(field) if "$ref" in branch), "")


def _branches(field: dict[str, Any]) -> list[dict[str, Any]]:
    """What a field may be, one by one; 'absent' is not among them."""
    return [branch for branch in field.get("anyOf", [field]) if branch.get("type") != "null"]


def _definition(reference: str, definitions: dict[str, Any]) -> dict[str, Any]:
    definition: dict[str, Any] = definitions[reference.removeprefix("#/$defs/")]
    return definition


def _field(name: str, field: dict[str, Any], is_required: bool) -> FieldFacts:
    examples = field.get("examples", [None])
    empty: Any = {"object": {}, "array": []}.get(field.get("type", ""))
    return FieldFacts(
        name=name,
        values=_values(field),
        meaning=field.get("description", ""),
        default=_short(field.get("default", empty)),
        example=examples[0],
        is_required=is_required,
        choices=_choices(field),
    )


def _choices(field: dict[str, Any]) -> tuple[str, ...]:
    """All values that a field may have, where they can be told one by one and are not just true and false."""
    if field.get("type") == "boolean":
        return ()
    listed = [_words(branch) for branch in _branches(field)]
    return tuple(word for words in listed for word in words) if all(listed) else ()


def _words(field: dict[str, Any]) -> list[str]:
    if field.get("type") == "boolean":
        return ["true", "false"]
    words: list[str] = field.get("enum", [field["const"]] if "const" in field else [])
    return words


def _short(default: Any) -> Any:
    """80 for 80.0: a person writes no point where none is needed."""
    return int(default) if isinstance(default, float) and default.is_integer() else default


def _values(field: dict[str, Any]) -> str:
    """What a field may hold, in a few words."""
    if choices := _choices(field):
        return " or ".join(choices)
    if "anyOf" in field:
        return " or ".join(_values(branch) for branch in _branches(field))
    if "type" in field.get("items", {}):
        return "list of " + _values(field["items"]).replace("number", "numbers", 1)
    pattern = field.get("pattern", "")
    special = {DURATION_PATTERN: "duration", SIZE_PATTERN: "size"}.get(pattern)
    if not special and pattern.endswith("%$"):
        special = "percentage"
    plain = {
        "string": "text",
        "boolean": "true or false",
        "object": "mapping" if field.get("additionalProperties") is True else "mapping of text",
        "array": "list",
        "integer": "whole number",
        "number": "number",
    }
    return (special or plain[field["type"]]) + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    low = _number(field["minimum"]) if "minimum" in field else None
    above = _number(field["exclusiveMinimum"]) if "exclusiveMinimum" in field else None
    high = _number(field["maximum"]) if "maximum" in field else None
    below = _number(field["exclusiveMaximum"]) if "exclusiveMaximum" in field else None
    if low is not None and high is not None:
        return f", {low} to {high}"
    words = [f"at least {low}" if low is not None else "", f"more than {above}" if above is not None else ""]
    words += [f"at most {high}" if high is not None else "", f"less than {below}" if below is not None else ""]
    said = " and ".join(word for word in words if word)
    return f", {said}" if said else ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
