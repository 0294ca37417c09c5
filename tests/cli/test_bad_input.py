"""Bad input, through the real command: exit code 2, one clear message, no traceback, nothing on stdout."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.protocol import Store
from tests.cli.conftest import ElasticProcess
from tests.cli.stored_jobs import JOB_YAML, put_pending
from tests.support.moto_server import environment, make_bucket, running_moto

CLOSED_PORT_URL = "http://127.0.0.1:9"

BAD_FILES = {
    "empty": ("", "is empty"),
    "not YAML": ("name: [digits\n", "bad.yaml:"),
    "no mapping": ("- digits\n", "must be a mapping"),
    "duplicate keys": (JOB_YAML + "name: twice\n", "name"),
    "unknown field": (JOB_YAML.replace("epochs", "epoch"), "did you mean 'epochs'"),
    "wrong type": (JOB_YAML.replace("shards: 4", "shards: four"), "training.shards"),
    "unit missing": (JOB_YAML + "checkpoint:\n  every: 60\n", "write 60s"),
    "more labels than images": (JOB_YAML.replace("shards: 4", "shards: 4\n  labels: 5000"), "5000 labels"),
    "min above max": (JOB_YAML + "scaling:\n  min: 4\n  max: 1\n", "scaling.min"),
    "band upside down": (JOB_YAML + "scaling:\n  up_above: 20\n  down_below: 30\n", "scaling.up_above"),
    "no ladder": ("name: digits\ntraining:\n  epochs: 2\nresources:\n  ladder: []\n", "resources.ladder"),
    "batch and shards": (JOB_YAML.replace("shards: 4", "shards: 4\n  batch: 130"), "training.batch"),
}


def assert_refused(outcome: object, *words: str) -> None:
    """Exit code 2 and one message with these words."""
    code, out, err = (getattr(outcome, name) for name in ("returncode", "stdout", "stderr"))
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_job_file(elastic_process: ElasticProcess, store: Store, tmp_path: Path, case: str) -> None:
    content, words = BAD_FILES[case]
    (tmp_path / "bad.yaml").write_text(content)
    outcome = elastic_process("submit", "bad.yaml", "--no-daemon")
    assert_refused(outcome, "bad.yaml", words)
    problems = [line for line in outcome.stderr.splitlines() if line.startswith("bad.yaml")]
    assert len(problems) == 1, outcome.stderr
    assert list(store.prefixes("jobs/")) == []


def test_no_such_file(elastic_process: ElasticProcess) -> None:
    assert_refused(elastic_process("submit", "absent.yaml"), "absent.yaml: no such file")


def test_a_name_that_is_taken(elastic_process: ElasticProcess, store: Store, tmp_path: Path) -> None:
    put_pending(store, "digits")
    (tmp_path / "job.yaml").write_text(JOB_YAML.replace("shards: 4", "seed: 1\n  shards: 4"))
    outcome = elastic_process("submit", "job.yaml", "--no-daemon")
    assert_refused(outcome, "digits", "exists already", "--name")
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["Digits", "a b", ""])
def test_a_name_from_the_command_line_that_is_none(elastic_process: ElasticProcess, tmp_path: Path, name: str) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    outcome = elastic_process("submit", "job.yaml", "--name", name, "--no-daemon")
    assert_refused(outcome, f"--name {name}: must be lower-case letters")
    assert "--set" not in outcome.stderr


@pytest.mark.parametrize("name", ["123", "null", "1e5"])
def test_a_name_from_the_command_line_is_text(elastic_process: ElasticProcess, tmp_path: Path, name: str) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    outcome = elastic_process("submit", "job.yaml", "--name", name, "--no-daemon", "-o", "name")
    assert (outcome.returncode, outcome.stdout) == (0, f"{name}\n"), outcome.stderr


@pytest.mark.parametrize(
    "command", ["show", "follow", "logs", "events", "wait", "cancel", "pause", "resume", "fetch", "resize --auto"]
)
def test_an_unknown_job(elastic_process: ElasticProcess, store: Store, command: str) -> None:
    put_pending(store, "digits")
    name, *options = command.split()
    outcome = elastic_process(name, "digist", *options)
    assert_refused(outcome, "no job named 'digist'", "did you mean 'digits'?")
    assert len(outcome.stderr.splitlines()) == 1


def test_a_name_that_is_none(elastic_process: ElasticProcess) -> None:
    assert_refused(elastic_process("show", "../../etc/passwd"), "is not a job name")


def test_a_store_that_cannot_be_reached(elastic_process: ElasticProcess, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    outcome = elastic_process("submit", "job.yaml", "--store", "s3://bucket/prefix", env=environment(CLOSED_PORT_URL))
    assert_refused(outcome, CLOSED_PORT_URL)
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["gopher://x", "s3://", "file://host/path"])
def test_a_store_that_there_is_not(elastic_process: ElasticProcess, url: str) -> None:
    assert_refused(elastic_process("ps", "--store", url), url)


@pytest.fixture(scope="module")
def careless_server() -> Iterator[str]:
    """An S3 server that ignores conditions."""
    with running_moto(ignore_conditions=True) as url:
        yield url


def test_a_store_without_conditional_writes(
    elastic_process: ElasticProcess, careless_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(careless_server).items():
        monkeypatch.setenv(name, value)
    make_bucket("careless")
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    outcome = elastic_process("submit", "job.yaml", "--store", "s3://careless")
    assert_refused(outcome, "s3://careless", "does not keep conditional writes")
    doctor = elastic_process("doctor", "--store", "s3://careless", "-o", "name")
    assert doctor.returncode == 1
    assert "store" in doctor.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["shwo"], "shwo"),
        (["ps", "--al"], "--al"),
        (["show"], "JOB"),
        (["wait", "digits", "--timeout", "10"], "write 10s"),
        (["wait", "digits", "--for", "done"], "done"),
        (["ps", "-o", "xml"], "xml"),
        (["submit", "job.yaml", "--set", "seed"], "--set seed"),
    ],
)
def test_a_command_that_cannot_be_parsed(
    elastic_process: ElasticProcess, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "job.yaml").write_text(JOB_YAML)
    outcome = elastic_process(*arguments)
    assert_refused(outcome, words)
    assert len(outcome.stderr.splitlines()) == 1
