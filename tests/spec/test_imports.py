"""What reading a job.yaml costs before it begins: the command line starts with these imports."""

import json
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh Python has after a statement."""
    show = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    answer = subprocess.run([sys.executable, "-c", f"{statement}; {show}"], capture_output=True, check=True, timeout=60)
    return set(json.loads(answer.stdout))


HEAVY = {"torch", "torchvision", "numpy", "sklearn", "boto3", "botocore", "moto", "rich", "typer"}


@pytest.mark.parametrize("module", ["orchestrator.spec.load", "orchestrator.spec.schema", "orchestrator.spec.template"])
def test_a_job_is_read_without_heavy_modules(module: str) -> None:
    modules = modules_after(f"import {module}")

    assert "pydantic" in modules
    assert not modules & (HEAVY | {"ruamel"})


def test_the_package_alone_costs_nothing() -> None:
    assert not modules_after("import orchestrator.spec") & (HEAVY | {"pydantic", "ruamel"})
