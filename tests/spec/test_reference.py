"""The reference of job.yaml in the README: every field, and never out of date."""

from pathlib import Path

import pytest

from orchestrator.spec.fields import job_fields
from orchestrator.spec.reference import BEGIN, END, main, reference, with_reference

README = Path(__file__).parents[2] / "README.md"


def test_every_field_has_a_row() -> None:
    text = reference()

    for section in job_fields().walk():
        for field in section.fields:
            assert f"| `{field.name}` | " in text


def test_tables_have_four_columns() -> None:
    for line in reference().splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 5, line


def test_the_readme_has_it() -> None:
    text = README.read_text(encoding="utf-8")

    assert with_reference(text) == text, "run: python -m orchestrator.spec.reference README.md"


def test_it_is_written_between_its_markers(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    main([str(file)])
    main([str(file)])

    assert file.read_text() == f"before\n{BEGIN}\n{reference()}{END}\nafter\n"


def test_a_text_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="reference:begin"):
        with_reference("no markers")
