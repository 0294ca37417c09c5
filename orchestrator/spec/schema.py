"""job.yaml as JSON Schema, so that an editor completes fields, shows what they mean and marks mistakes.

`python -m orchestrator.spec.schema` writes it to job.schema.json beside this file, where the examples name it; a test
keeps the two the same.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.spec.models import JobSpec
from trainer.config import models_in

SCHEMA_FILE = Path(__file__).with_name("job.schema.json")


def job_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of job.yaml, with defaults spelled as a person would write them."""
    generated = JobSpec.model_json_schema()
    definitions = generated.pop("$defs")
    for model in _all_models(JobSpec):
        properties = (generated if model is JobSpec else definitions[model.__name__])["properties"]
        _spell_defaults(model, properties)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **generated,
        "title": "job.yaml",
        "oneOf": [{"required": ["training"]}, {"required": ["command"]}],
        "$defs": definitions,
    }
    for part in (schema, *definitions.values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)  # pydantic's titles repeat the field's name
            if "patternProperties" in field:
                field["additionalProperties"] = False
    return schema


def schema_text() -> str:
    """The schema as it is committed."""
    return json.dumps(job_schema(), indent=2, ensure_ascii=False) + "\n"


def _spell_defaults(model: type[BaseModel], properties: dict[str, Any]) -> None:
    """pydantic gives the default of a duration in seconds; a job.yaml wants '1m'."""
    written = model.model_construct().model_dump(mode="json", warnings=False)
    for name, field in properties.items():
        if "default" in field:
            field["default"] = written[name]


def _all_models(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [child for info in model.model_fields.values() for child in models_in(info.annotation)]
    return [model, *(grandchild for child in inner for grandchild in _all_models(child))]


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
    print(f"wrote {SCHEMA_FILE}")
