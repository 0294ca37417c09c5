"""`elastic schema`: job.yaml for editors."""

import json


def schema() -> None:
    """Print the JSON Schema of job.yaml, for editors."""
    from orchestrator.spec.schema import job_schema

    print(json.dumps(job_schema(), indent=2, ensure_ascii=False))
