"""`--set training.seed=3` and `--name job`: values from the command line, laid over those of a file."""

from typing import Any

from orchestrator.spec.document import Document, Place, read_yaml
from orchestrator.spec.problems import Path, Problem, Span, dotted

_NO_LINE = Span(1, 1)


def apply_override(document: Document, override: str) -> None:
    """Set one dotted path of a document to a value parsed as YAML; mistakes go to the document's problems.

    A part of the path may be the number of a list's entry: resources.ladder.0.workers=2.
    """
    source = f"--set {override}"
    name, equals, text = override.partition("=")
    parts = [part.strip() for part in name.split(".")]
    value = read_yaml(text, source)
    if not equals or not all(parts):
        complaint = "must be FIELD=VALUE, such as training.seed=3"
    elif value.problems:
        complaint = f"the value is {value.problems[0].message}"
    else:
        complaint = _assign(document, parts, value, source)
    if complaint:
        document.problems.append(Problem(source, complaint))


def apply_name(document: Document, name: str) -> None:
    """Set the job's name to text as it stands: 123 is a name on a command line, whatever YAML makes of it."""
    document.data["name"] = name
    _move_places(document, ("name",), Document(source="", text="", data=name), f"--name {name}")


def _assign(document: Document, parts: list[str], value: Document, source: str) -> str:
    """Put a value at a path, making mappings on the way; returns what stands in the way, if anything does."""
    here: Any = document.data
    path: Path = ()
    for part, is_last in [(part, i == len(parts)) for i, part in enumerate(parts, start=1)]:
        key, complaint = _key(here, part, dotted(path))
        if complaint:
            return complaint
        path = (*path, key)
        if is_last:
            here[key] = value.data
        elif isinstance(here, dict) and here.get(key) is None:
            here[key] = {}
            document.places.setdefault(path, Place(_NO_LINE, _NO_LINE, origin=source))
        here = here[key]
    _move_places(document, path, value, source)
    return ""


def _key(here: Any, part: str, name: str) -> tuple[str | int, str]:
    """A part of a path as the key of what it leads into, or why it leads nowhere."""
    if isinstance(here, dict):
        return part, ""
    if not isinstance(here, list):
        return part, f"{name} is a single value and has no field '{part}'"
    if not part.isdecimal() or int(part) >= len(here):
        return part, f"{name} has no entry '{part}'; its {len(here)} are counted from 0"
    return int(part), ""


def _move_places(document: Document, path: Path, value: Document, source: str) -> None:
    """What was overridden has no line any more: it came from the command line."""
    for old in [place for place in document.places if place[: len(path)] == path]:
        del document.places[old]
    for inner, place in {(): Place(_NO_LINE, _NO_LINE), **value.places}.items():
        document.places[(*path, *inner)] = Place(_NO_LINE, _NO_LINE, place.spelling, origin=source)
