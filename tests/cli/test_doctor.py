"""The doctor: what it finds here, and what it says when something is wrong."""

import json
import os
from pathlib import Path

import pytest

from orchestrator.cli import checks
from orchestrator.cli.checks import Finding, Verdict
from orchestrator.cli.invocation import Invocation
from orchestrator.store import open_store
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic, ElasticProcess
from tests.support.docker_engine import Engine
from tests.support.moto_server import environment, make_bucket, running_moto
from tests.support.s3_servers import running_rclone, seaweed_server, seaweed_store, use_server

__all__ = ["seaweed_server", "seaweed_store"]

ALL_CHECKS = ["python", "torch", "gpu", "cpu", "store", "disk", "controller", "ec2", "pool", "docker", "aws"]


class CarelessStore(MemoryStore):
    """Creates over what exists."""

    def create(self, key: str, body: bytes) -> str:
        return self.put(key, body)


def test_all_is_well_on_a_machine_that_can_run_these_tests(elastic_process: ElasticProcess, store: Store) -> None:
    outcome = elastic_process("doctor", "-o", "json")
    assert outcome.returncode == 0, outcome.stdout
    findings = {finding["check"]: finding for finding in json.loads(outcome.stdout)}
    assert list(findings) == ALL_CHECKS
    assert findings["store"]["verdict"] == "ok"
    assert store.url in findings["store"]["seen"]
    assert [entry.key for entry in store.list("control/probe/")] == []


def test_the_table_says_what_to_do(elastic: Elastic, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "check_torch", lambda: Finding("torch", Verdict.FAIL, "missing", "uv sync"))
    monkeypatch.setattr(checks, "check_aws", lambda *, needed: Finding("aws", Verdict.OK, "none"))
    outcome = elastic("doctor")
    assert outcome.code == 1
    assert "✘ fail  torch" in outcome.out
    assert "→ uv sync" in outcome.out
    assert "1 of 11 checks failed" in outcome.err


MADE_UP_TORCH = """
from types import SimpleNamespace
__version__ = "2.15.0"
version = SimpleNamespace(cuda=None)
cuda = SimpleNamespace(is_available=lambda: False)
"""


def test_a_torch_that_is_compiled_at_each_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(MADE_UP_TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told = checks.check_torch()
    assert told.verdict is Verdict.WARN
    assert "compiled at each start of a worker" in told.seen
    assert "uv sync --compile-bytecode" in told.advice
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    assert checks.check_torch() == Finding("torch", Verdict.OK, "2.15.0 (CPU only), sees 0 GPUs")


def test_a_store_that_ignores_conditions_fails() -> None:
    [finding] = checks.check_store(CarelessStore(), Invocation(environ={}))
    assert finding.verdict is Verdict.FAIL
    assert "does not keep what jobs rest on: creating a key that exists is refused: accepted" in finding.seen
    assert finding.advice


@pytest.mark.requires("seaweedfs")
def test_of_an_s3_service_all_that_holds_is_told(seaweed_store: str) -> None:
    found = checks.check_store(open_store(seaweed_store, os.environ), Invocation(environ={}))
    assert [finding.verdict for finding in found] == [Verdict.OK] * len(found)
    told = {finding.name: finding.seen for finding in found}
    assert seaweed_store in told["store"]
    assert told["store: contention"] == "of two that create a key at once exactly one wins (required): yes"
    assert "(used where there)" in told["store: polling"]
    assert "(not used): no: both are refused alike" in told["store: absence"]


@pytest.mark.requires("rclone")
def test_of_a_service_without_conditions_each_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_rclone() as url:
        use_server(url, monkeypatch)
        make_bucket("careless")
        found = checks.check_store(open_store("s3://careless/jobs", os.environ), Invocation(environ={}))
    failed = [finding for finding in found if finding.verdict is Verdict.FAIL]
    assert {"store", "store: conditions", "store: contention"} <= {finding.name for finding in failed}


def test_a_store_that_cannot_be_opened_fails_once_for_each_check_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(checks, "check_torch", lambda: Finding("torch", Verdict.OK, "not asked"))
    findings = checks.run_checks(checks.checks_for(Invocation(environ={}), str(tmp_path / "file")))
    assert {f.name for f in findings if f.verdict is Verdict.FAIL} == {"store", "disk", "controller", "ec2", "pool"}


@pytest.mark.requires("docker")
def test_a_docker_engine_is_told_with_its_version(docker_engine: Engine) -> None:
    finding = checks.check_docker(os.environ)
    version = docker_engine.docker("version", "--format", "{{.Server.Version}}")
    assert finding.verdict is Verdict.OK
    restores = docker_engine.docker("info", "--format", "{{.LiveRestoreEnabled}}") == "true"
    assert finding.seen.startswith(f"engine {version}, which runs jobs with resources.image")
    assert ("live-restore is off" in finding.seen) is not restores


def test_without_docker_nothing_is_wrong(tmp_path: Path) -> None:
    finding = checks.check_docker({"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    assert finding.verdict is Verdict.OK
    assert f"there is no Docker engine at unix://{tmp_path}/docker.sock" in finding.seen
    assert finding.advice == "only jobs with resources.image need one here"


def test_missing_credentials_matter_only_for_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert checks.check_aws(needed=False).verdict is Verdict.OK
    finding = checks.check_aws(needed=True)
    assert finding.verdict is Verdict.FAIL
    assert "aws configure" in finding.advice


def test_aws_tells_who_one_is_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_moto() as url:
        for name, value in {**environment(url), "AWS_ENDPOINT_URL_STS": url}.items():
            monkeypatch.setenv(name, value)
        for needed, words in ((True, "what it may write into the store is tried above"), (False, "not needed")):
            finding = checks.check_aws(needed=needed)
            assert finding.verdict is Verdict.OK
            assert finding.seen.startswith("identity arn:aws:")
            assert words in finding.seen
