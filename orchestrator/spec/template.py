"""The commented job.yaml that `elastic init` writes: every field with its value and meaning.

It is generated from the models, so that it cannot drift from them, and a test loads it. A line is a comment where a
field has no default; the few values below differ from the defaults, because a first job should show what elastic does.
"""

import json
import re
import textwrap
from typing import Any

from orchestrator.spec.fields import FieldFacts, Section, job_fields
from orchestrator.spec.schema import SCHEMA_FILE

_WIDTH = 100
# Values of a first job, by path, in place of the default.
_FIRST_JOB: dict[str, Any] = {
    # Some 240 steps as in examples/digits.yaml, and its settings.
    "training.labels": 50,
    "training.epochs": 11,
    "training.batch": 96,
    "training.ema.decay": 0.95,
    "training.augmentation.translate_px": 1,
    "training.augmentation.rotate_degrees": 15,
    "training.augmentation.scale": 0.1,
    "training.augmentation.shear": 0.1,
    "training.shards": 2,
    "resources.ladder": [{"workers": 1}, {"workers": 2}],
    # It is over in a minute or two: with times as for a long job it would be so before anything is measured.
    "scaling.window": "6s",
    "scaling.warm_up": "2s",
    "scaling.cooldown": "30s",
    "checkpoint.every": "10s",
}
_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*|\d+[a-zA-Z]+|\d+%")
# Words that YAML, of one version or another, takes for something else than text.
_NOT_TEXT = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}

_HEADER = """\
# yaml-language-server: $schema={schema}
#
# A job for elastic: what to train, where, and how far it may grow.
#
#   elastic validate job.yaml           check it
#   elastic submit job.yaml --follow    run it and watch
#
# Only name, training and its epochs (or steps) are needed; everything else may be left out, and has its default then.
# Durations and sizes carry their unit: 500ms, 30s, 2m, 1h30m, 7d; 512MiB, 4GiB, 10GB.
#
# By the first line editors complete fields and mark mistakes. It names a file of this installation; in a repository of
# your own, write one beside the job (elastic schema > job.schema.json) and name that: $schema=job.schema.json
"""


def job_template(name: str = "my-job") -> str:
    """A complete job.yaml of this name, with a comment on every field."""
    root = job_fields()
    values = {**_FIRST_JOB, "name": name}
    blocks = [_HEADER.format(schema=SCHEMA_FILE.as_uri()).rstrip()]
    blocks += ["\n".join(_field_lines(field, "", values)) for field in root.fields if field.is_required]
    blocks += ["\n".join(_section_lines(section, 0, values)) for section in root.sections]
    blocks += ["\n".join(_field_lines(field, "", values)) for field in root.fields if not field.is_required]
    return "\n\n".join(blocks) + "\n"


def _section_lines(section: Section, depth: int, values: dict[str, Any]) -> list[str]:
    indent = "  " * depth
    lines = [*_comment(section.meaning, indent), f"{indent}{section.path.rpartition('.')[2]}:"]
    for field in section.fields:
        lines += _field_lines(field, section.path, values, indent + "  ")
        entries = [inner for inner in section.sections if inner.path == f"{section.path}.{field.name}[]"]
        for inner in entries:
            lines += _entry_comments(inner, indent + "    ")
    for inner in section.sections:
        if not inner.path.endswith("[]"):
            inner_lines = _section_lines(inner, depth + 1, values)
            lines += _commented_out(inner_lines, indent + "  ") if inner.is_optional else inner_lines
    return lines


def _commented_out(lines: list[str], indent: str) -> list[str]:
    """A section that is absent unless its lines, up to the empty one, lose the first '# '."""
    return [*(f"{indent}# {line.removeprefix(indent)}" for line in lines), ""]


def _entry_comments(section: Section, indent: str) -> list[str]:
    """What the entries of a list may hold; the entries themselves stand above."""
    lines = []
    for field in section.fields:
        about = f"{field.name}: {field.meaning} Default: {_yaml(field.default)}."
        lines += _comment(about, indent)
    return lines


def _field_lines(field: FieldFacts, path: str, values: dict[str, Any], indent: str = "") -> list[str]:
    value = values.get(f"{path}.{field.name}".lstrip("."), field.default)
    about = field.meaning
    if len(field.choices) > 1:
        about += f" One of: {', '.join(field.choices)}."
    if value is not None and value != field.default and not field.is_required and field.default is not None:
        about += f" Default: {_yaml(field.default)}."
    lines = _comment(about, indent)
    if value is None:
        # What an optional section must have is there with the section.
        hidden = "" if field.is_required else "# "
        return [*lines, f"{indent}{hidden}{field.name}: {_yaml(field.example if field.example is not None else 1)}"]
    if isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        return [*lines, f"{indent}{field.name}:", *(f"{indent}  - {_yaml(entry)}" for entry in value)]
    lines.append(f"{indent}{field.name}: {_yaml(value)}")
    if value == {} and field.example:
        lines[-1] += f"  # such as {_yaml(field.example)}"
    return lines


def _comment(text: str, indent: str) -> list[str]:
    indent += "# "
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _yaml(value: Any) -> str:
    """A value on one line of YAML 1.2; text is quoted where YAML would read something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(entry) for entry in value) + "]"
    if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value)
