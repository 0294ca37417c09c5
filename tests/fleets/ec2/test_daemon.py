"""A daemon and a job for EC2: what the person is told where no account was ever set up."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.controller.daemon import open_fleets
from orchestrator.controller.duty import Duty
from orchestrator.jobs.bucket import job_names, load_record, submit_job
from orchestrator.jobs.pace import pace_of
from orchestrator.jobs.phases import JobPhase
from orchestrator.spec.load import load_job
from orchestrator.store.document import random_nonce
from orchestrator.store.lease import Lease
from orchestrator.store.local import LocalStore
from orchestrator.store.owner import this_process
from tests.support.waiting import wait_until

JOB = """\
name: cloud
training: {epochs: 1}
resources: {fleet: ec2, ladder: [{instance: g6.xlarge}]}
"""


def test_without_bootstrap_the_job_fails_and_says_what_to_do(tmp_path: Path) -> None:
    store, said = LocalStore(tmp_path / "store"), list[str]()
    submit_job(store, load_job(JOB), datetime.now(UTC), random_nonce)
    duty = Duty(
        store,
        Lease(store, this_process("daemon")),
        lambda: open_fleets(store, said.append),
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        nonce=random_nonce,
        log=said.append,
        pace=pace_of(store.billed),
    )

    def is_over() -> bool:
        duty.turn()
        return load_record(store, "cloud").value.phase.over

    wait_until(is_over, "the job ends")
    record = load_record(store, "cloud").value
    assert record.phase is JobPhase.FAILED
    assert f"no AWS account is set up for {store.url}, and instances reach a store" in record.reason
    assert "run `elastic bootstrap`, then submit again to the bucket that it makes" in record.reason


def test_such_a_job_is_not_even_submitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    store = tmp_path / "store"

    assert run(["submit", str(tmp_path / "job.yaml"), "--store", str(store)]) == 2
    assert f"No AWS account is set up for file://{store}, and instances reach" in capsys.readouterr().err
    assert list(job_names(LocalStore(store))) == []
