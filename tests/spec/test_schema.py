"""The JSON Schema that editors use: committed, current, and of one mind with the models."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from orchestrator.spec.load import load_job
from orchestrator.spec.problems import SpecError
from orchestrator.spec.schema import SCHEMA_FILE, job_schema, schema_text
from orchestrator.spec.template import job_template
from tests.spec.test_load import JOB

EXAMPLES = sorted(Path(__file__).parents[2].joinpath("examples").rglob("*.yaml"))


def errors_of(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(job_schema())
    return [error.message for error in validator.iter_errors(YAML(typ="safe", pure=True).load(text))]


def walk(schema: Any) -> list[dict[str, Any]]:
    """Every mapping within a schema."""
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return ([schema] if isinstance(schema, dict) else []) + [inner for child in children for inner in walk(child)]


def test_the_committed_schema_is_current() -> None:
    committed = SCHEMA_FILE.read_text(encoding="utf-8")

    assert committed == schema_text(), "run: python -m orchestrator.spec.schema"


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(job_schema())
    assert job_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_field_says_what_it_means() -> None:
    schema = job_schema()
    for part in (schema, *schema["$defs"].values()):
        assert part["description"]
        assert part["additionalProperties"] is False
        for name, field in part["properties"].items():
            assert field.get("description") or "$ref" in field, name


def test_defaults_are_spelled_as_a_person_would() -> None:
    schema = job_schema()["$defs"]

    assert schema["Scaling"]["properties"]["window"]["default"] == "1m"
    assert schema["Checkpoint"]["properties"]["keep_free"]["default"] == "256MiB"


def test_every_default_is_allowed() -> None:
    schema = job_schema()
    with_default = [part for part in walk(schema) if "default" in part]
    assert with_default
    for part in with_default:
        jsonschema.validate(part["default"], {**part, "$defs": schema["$defs"]}, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_examples_satisfy_it_and_name_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")

    assert (file.parent / named).resolve() == SCHEMA_FILE
    assert errors_of(text) == []


def test_the_template_satisfies_it() -> None:
    assert errors_of(job_template()) == []


@pytest.mark.parametrize(
    "addition",
    [
        "scaling: {windw: 8s}",
        "scaling: {window: 8}",
        "scaling: {window: 8 s}",
        "scaling: {up_above: 101}",
        "checkpoint: {keep: 1}",
        "checkpoint: {keep_free: 4Gi}",
        "checkpoint: {keep: '3'}",
        "labels: {run: 7}",
        "limits: {max_cost: 0}",
        "resourcs: {}",
    ],
)
def test_it_refuses_what_the_models_refuse(addition: str) -> None:
    text = f"{JOB}{addition}\n"

    assert errors_of(text)
    with pytest.raises(SpecError):
        load_job(text)


def test_it_is_plain_json() -> None:
    assert json.loads(schema_text()) == job_schema()
