"""The rule that a job is as old as time says: what it lets pass, and what not."""

from collections import Counter
from datetime import timedelta

import pytest

from orchestrator.jobs.record import JobRecord
from orchestrator.simulator.end_rules import Ends
from orchestrator.simulator.faults import Fault
from orchestrator.simulator.timeline import START
from orchestrator.simulator.violation import Violation
from tests.support.specs import job_spec


class Aging:
    """The versions of one job's record, as one leader writes them."""

    def __init__(self, *faults: Fault) -> None:
        self.ends = Ends(job_spec(), {}, Counter(faults))
        self.write(0.0, true_s=0.0, epoch=0)

    def write(self, age_s: float, *, true_s: float, epoch: int = 1) -> None:
        record = JobRecord(name="digits", reason="submitted", created_at=START, epoch=epoch, age_s=age_s)
        counted = record.model_copy(update={"counted_at": START + timedelta(seconds=age_s)})
        self.ends.record_written("daemon1", "digits", counted.model_dump(mode="json"), true_s, true_s)


def test_a_clock_that_is_fast_is_not_seen_in_a_version_that_was_long_on_its_way() -> None:
    """Seed 402990: a minute too much, written after the leader had stood still for two."""
    aging = Aging(Fault.SKEW)
    aging.write(73.0, true_s=118.0)
    aging.write(251.0, true_s=191.0)
    with pytest.raises(Violation, match="a job is as old as time says: daemon1: digits is 200 s old, not 900 s"):
        aging.write(900.0, true_s=200.0)


def test_where_no_clock_was_wrong_no_second_too_much_is_let_pass() -> None:
    aging = Aging()
    aging.write(73.0, true_s=118.0)
    with pytest.raises(Violation, match="a job is as old as time says"):
        aging.write(251.0, true_s=191.0)
