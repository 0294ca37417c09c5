"""The reference of job.yaml as Markdown tables, one for each section.

`python -m orchestrator.spec.reference README.md` writes them between the markers of that file; without a file it prints
them.
"""

import json
import sys
from pathlib import Path

from orchestrator.spec.fields import FieldFacts, Section, job_fields

BEGIN = "<!-- reference:begin -->"
END = "<!-- reference:end -->"


def reference() -> str:
    """Markdown that explains every field of job.yaml."""
    return "\n\n".join(_table(section) for section in job_fields().walk()) + "\n"


def with_reference(text: str) -> str:
    """A Markdown text with the reference between its markers brought up to date; ValueError when it has no markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no {BEGIN} and {END} to write between")
    return f"{before}{BEGIN}\n{reference()}{END}{after}"


def _table(section: Section) -> str:
    title = f"**`{section.path}`** — {section.meaning}" if section.path else f"**The whole file** — {section.meaning}"
    rows = [_row(field) for field in section.fields]
    rows += [
        f"| `{inner.path.rpartition('.')[2]}` | {'optional ' * inner.is_optional}section | | {inner.meaning} |"
        for inner in section.sections
        if not inner.path.endswith("[]")
    ]
    return "\n".join([title, "", "| field | values | default | meaning |", "|---|---|---|---|", *rows])


def _row(field: FieldFacts) -> str:
    default = "required" if field.is_required else "" if field.default is None else f"`{_text(field.default)}`"
    cells = [f"`{field.name}`", field.values, default, field.meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def main(arguments: list[str]) -> None:
    """Write the reference into the files named, or print it."""
    for name in arguments:
        path = Path(name)
        path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote the reference into {path}")
    if not arguments:
        print(reference(), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
