"""The import contracts can fail: on a repository that breaks each of them, each is reported broken."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the code and its configuration, to be spoilt."""
    for package in ("orchestrator", "trainer"):
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(repository: Path) -> subprocess.CompletedProcess[str]:
    command = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-P", "-c", command, "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_contracts_are_kept(repository: Path) -> None:
    answer = lint_imports(repository)

    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("orchestrator/store/protocol.py", "import orchestrator.jobs.head"),
        ("orchestrator/jobs/head.py", "import orchestrator.cli.main"),
        ("orchestrator/fleets/protocol.py", "import orchestrator.agent"),
        ("trainer/config/base.py", "import orchestrator.errors"),
        ("trainer/config/base.py", "def late() -> None:\n    import boto3"),
        ("orchestrator/jobs/head.py", "import trainer.model"),
        ("orchestrator/spec/models.py", "import torch"),
        ("orchestrator/jobs/head.py", "import boto3"),
        ("orchestrator/spec/load.py", "from time import monotonic"),
        ("orchestrator/jobs/head.py", "import random"),
        ("orchestrator/controller/decide.py", "import time"),
    ],
)
def test_a_broken_contract_is_noticed(repository: Path, module: str, statement: str) -> None:
    with (repository / module).open("a") as file:
        file.write(f"\n\n{statement}\n")

    answer = lint_imports(repository)

    assert answer.returncode == 1
    assert "BROKEN" in answer.stdout


def pure_files() -> list[Path]:
    """The files of the modules that the contract calls pure."""
    configuration = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configuration["tool"]["importlinter"]["contracts"]
    (pure,) = [contract for contract in contracts if "is pure" in contract["name"]]
    paths = [REPOSITORY / module.replace(".", "/") for module in pure["source_modules"]]
    return [file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")])]


def clocks_read(source: str) -> list[str]:
    """Calls that ask what time it is; the import of datetime itself forbids nothing, since values are made of it."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [func.attr for func in calls if isinstance(func, ast.Attribute)]
    return [name for name in names if name in {"now", "utcnow", "today"}]


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_what_decides_asks_no_clock(file: Path) -> None:
    assert clocks_read(file.read_text(encoding="utf-8")) == []


def test_asking_a_clock_is_noticed() -> None:
    assert clocks_read("from datetime import UTC, datetime\nwhen = datetime.now(UTC)\n") == ["now"]
