"""YAML text as plain data, with the place of every key and value.

The text is composed to YAML's node graph, where every node knows its place, and walked here; constructing objects would
lose the places of scalars and stop at the first duplicate key. What comes out is what JSON knows: mappings with text
keys, lists, text, numbers, true, false, null.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

from orchestrator.spec.problems import Path, Problem, Span

_MAX_DEPTH = 20
# Aliases can make a small file enormous ("billion laughs"); a real job.yaml has about a hundred values.
_MAX_VALUES = 10_000
_CONSTRUCTED = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")}
# A date is text to us, as in YAML 1.2's own schema; so is a merge key, which YAML 1.2 dropped.
_AS_TEXT = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp", "merge", "value")}
_COLLECTIONS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq")}


@dataclass(frozen=True)
class Place:
    """Where a value was written: its key, itself, and its own spelling if it is a scalar."""

    key: Span
    value: Span
    spelling: str = ""
    origin: str = ""
    """The `--set` argument that brought it; empty: the file."""


@dataclass
class Document:
    """Data under construction: `problems` collects what is wrong with the YAML; when it is `broken`, data is no use."""

    source: str
    text: str
    data: Any = None
    broken: bool = False
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, span: Span | None, message: str, name: str = "", *, broken: bool = False) -> None:
        """Note a problem at a stretch of the text."""
        self.broken = self.broken or broken
        lines = self.text.splitlines()
        line = lines[span.line - 1] if span and span.line <= len(lines) else ""
        self.problems.append(Problem(self.source, message, name, span, line))


def read_yaml(text: str, source: str) -> Document:
    """Parse one YAML document; whatever is wrong is in the result's `problems`, and nothing is raised."""
    # Imported here: only a command that reads a job.yaml pays for it.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError

    document = Document(source, text)
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # YAML allows it, and a person need not hear of it
            root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = Span(mark.line + 1, mark.column + 1) if mark else None
        document.complain(span, f"not YAML: {_condensed(error.problem, error.context)}", broken=True)
    except YAMLError as error:
        document.complain(None, f"not YAML: {_condensed(str(error).splitlines()[0])}", broken=True)
    except RecursionError:
        document.complain(None, "not a job.yaml: nested too deeply", broken=True)
    else:
        if root is not None:
            _Walk(document, yaml).run(root)
    return document


def _condensed(problem: str | None, context: str | None = None) -> str:
    """ruamel's message in one line, with advice for the usual traps."""
    advice = {
        "found character '\\t'": " (indent with spaces, not tabs)",
        "mapping values are not allowed": " (a value with ': ' in it needs quotes; or the indentation is wrong)",
        "cannot start any token": " (quote the value)",
        "but found another document": " (one job a file)",
    }
    said = " ".join(part for part in (context, problem) if part) or "it cannot be parsed"
    return said + next((hint for start, hint in advice.items() if start in said), "")


class _Walk:
    """One pass over the nodes of a document."""

    def __init__(self, document: Document, yaml: Any) -> None:
        self.document = document
        self.yaml = yaml
        self.values = 0

    def run(self, root: Any) -> None:
        self.note((), _span(root), root)
        self.document.data = self.value(root, ())

    def value(self, node: Any, path: Path) -> Any:
        self.values += 1
        if len(path) > _MAX_DEPTH or self.values > _MAX_VALUES:
            if not self.document.broken:  # said once, however many more there are
                self.document.complain(
                    _span(node), "not a job.yaml: too many values, or nested too deeply", broken=True
                )
            return None
        if not self.is_plain(node):
            self.document.complain(_span(node), f"the tag {node.tag} means nothing here; remove it")
        if node.id == "mapping":
            return self.mapping(node, path)
        if node.id == "sequence":
            return [self.item(child, (*path, i)) for i, child in enumerate(node.value)]
        return self.scalar(node)

    def is_plain(self, node: Any) -> bool:
        """Whether a node is what it looks like, not what a tag calls it."""
        if node.id != "scalar":
            return node.tag in _COLLECTIONS
        looks_like = self.yaml.resolver.resolve(type(node), node.value, (True, False))
        return node.tag in _AS_TEXT or (node.tag in _CONSTRUCTED and node.tag == looks_like)

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, child in node.value:
            span = _span(key)
            if key.id != "scalar":
                self.document.complain(span, "a field's name must be text")
                continue
            name = self.text(key)
            if name in data:
                self.document.complain(span, f"duplicate key; line {lines[name]} has it already", name)
                continue
            lines[name] = span.line
            self.note((*path, name), span, child)
            data[name] = self.value(child, (*path, name))
        return data

    def item(self, node: Any, path: Path) -> Any:
        self.note(path, _span(node), node)
        return self.value(node, path)

    def note(self, path: Path, key: Span, node: Any) -> None:
        # The value of a block begins on a line of its own that says nothing: its key stands for it.
        on_key = node.id != "scalar" and not node.flow_style
        spelling = node.value if node.id == "scalar" else ""
        empty = node.id == "scalar" and node.start_mark.index == node.end_mark.index
        self.document.places[path] = Place(key, key if on_key or empty else _span(node), spelling)

    def scalar(self, node: Any) -> Any:
        if node.tag not in _CONSTRUCTED or not self.is_plain(node):
            return self.text(node)
        try:
            value = self.yaml.constructor.construct_object(node)
            str(value)  # a hexadecimal number may have more decimal digits than Python writes
            return value
        except ValueError:
            self.document.complain(_span(node), "not a number that can be read")
            return None

    def text(self, node: Any) -> str:
        """A scalar as text; half a surrogate pair, which an escape can write, is in no Unicode text."""
        text: str = node.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.document.complain(_span(node), "this text has an escape that is no character")
            return ""
        return text


def _span(node: Any) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Span(start.line + 1, start.column + 1, max(1, width))
