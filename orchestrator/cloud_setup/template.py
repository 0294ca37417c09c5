"""The CloudFormation template, wherever this elastic was installed from."""

from pathlib import Path

from orchestrator.errors import ElasticError

FILE = "elastic.cloudformation.yaml"


def template_path() -> Path:
    """The file: beside this module in an installed elastic, in deploy/ of a source tree. Raises ElasticError."""
    beside = Path(__file__).with_name(FILE)
    in_tree = Path(__file__).parents[2] / "deploy" / FILE
    for path in (beside, in_tree):
        if path.is_file():
            return path
    raise ElasticError(f"{FILE} is missing from this elastic ({beside}): install it again.")


def template_body() -> str:
    """Its text."""
    return template_path().read_text(encoding="utf-8")
