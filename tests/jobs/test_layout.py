"""Keys sort in the order of what they count, tell jobs apart, and cannot leave their place."""

import random
from collections.abc import Callable

import pytest

from orchestrator.errors import UsageError
from orchestrator.jobs import layout
from orchestrator.store.keys import check_key

NUMBERED: dict[str, Callable[[int], str]] = {
    "events": lambda n: layout.event_key("a", n),
    "checkpoints by step": lambda n: layout.checkpoint_prefix("a", n, 1),
    "checkpoints of one step by generation": lambda n: layout.checkpoint_prefix("a", 7, n),
    "decisions": lambda n: layout.decision_key("a", n, 99 - n % 99),
    "progress chunks": lambda n: layout.progress_key("a", 1, n),
    "progress by generation": lambda n: layout.progress_key("a", n, 1),
    "log chunks": lambda n: layout.log_key("a", 1, "rank00000", n),
    "logs by generation": lambda n: layout.log_key("a", n, "rank00000", 1),
    "ranks": layout.rank_stream,
}
OF_A_JOB: list[Callable[[str], str]] = [
    layout.spec_key,
    layout.record_key,
    layout.head_key,
    layout.requests_prefix,
    lambda job: layout.request_key(job, "r"),
    layout.todo_key,
    lambda job: layout.decision_key(job, 1, 1),
    lambda job: layout.pin_key(job, "p"),
    layout.events_prefix,
    lambda job: layout.event_key(job, 1),
    layout.checkpoints_prefix,
    lambda job: layout.manifest_key(layout.checkpoint_prefix(job, 1, 1)),
    layout.progress_prefix,
    lambda job: layout.progress_key(job, 1, 1),
    layout.logs_prefix,
    lambda job: layout.log_key(job, 1, layout.launcher_stream(0), 1),
]


@pytest.mark.parametrize("key_of", NUMBERED.values(), ids=NUMBERED)
def test_names_sort_as_numbers_do(key_of: Callable[[int], str]) -> None:
    numbers = sorted({0, 1, 9, 10, 99, 100, 12_345, *random.Random(0).sample(range(99_999), 50)})
    keys = [key_of(number) for number in numbers]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("key_of", OF_A_JOB)
def test_everything_of_a_job_is_under_its_prefix_and_can_be_a_key(key_of: Callable[[str], str]) -> None:
    key = key_of("digits-2")
    assert key.startswith(("jobs/digits-2/", "todo/requests/digits-2/")) or key == "todo/jobs/digits-2"
    check_key(key.rstrip("/"))


@pytest.mark.parametrize("key_of", OF_A_JOB)
@pytest.mark.parametrize(
    "name", ["", ".", "..", "../other", "a/b", "A", "a b", "-a", "a" * 64, "a\n", "a\x00", "jobs/x", "%2e%2e", "ä"]
)
def test_what_is_no_job_name_makes_no_key(key_of: Callable[[str], str], name: str) -> None:
    with pytest.raises(UsageError, match="is not a job name"):
        key_of(name)


def test_the_longest_names_still_make_keys() -> None:
    name = "a" * 63
    instance = layout.instance_id(name, 999_999, 999, 99)
    for key_of in OF_A_JOB:
        check_key(key_of(name).rstrip("/"))
    check_key(layout.assignment_key(instance))
    check_key(layout.heartbeat_key(instance))


def test_instances_of_different_jobs_never_share_a_name() -> None:
    """Job names may look like the endings of instance names."""
    jobs = ["a", "a-g1", "a-g1-n0", "a-g1-n0-a0", "g1", "n0-a0", "a-g11"]
    names = [
        layout.instance_id(job, generation, slot, attempt)
        for job in jobs
        for generation in (1, 11)
        for slot in (0, 1)
        for attempt in (0, 1)
    ]
    assert len(set(names)) == len(names)


def test_streams_of_logs_lie_under_the_prefixes_that_list_them() -> None:
    key = layout.log_key("a", 3, layout.rank_stream(1), 5)
    for prefix in (layout.logs_prefix("a"), layout.logs_prefix("a", 3), layout.logs_prefix("a", 3, "rank00001")):
        assert key.startswith(prefix)
    assert not key.startswith(layout.logs_prefix("a", 4))


def test_a_decision_is_told_by_version_and_leader() -> None:
    assert layout.parse_decision(layout.decision_key("digits-e5", 12, 3)) == (12, 3)
    assert layout.parse_decision("jobs/digits/decisions/000000000012.json") is None


def test_an_instance_belongs_to_one_job_however_alike_names_are() -> None:
    mine = layout.instance_id("digits", 12, 0, 1)
    of_another = layout.instance_id("digits-g1-n0-a0", 3, 0, 0)
    assert mine.startswith(layout.instances_prefix("digits").removeprefix(layout.INSTANCES))
    assert layout.is_instance_of(mine, "digits")
    assert not layout.is_instance_of(of_another, "digits")
    assert layout.is_instance_of(of_another, "digits-g1-n0-a0")
    assert [layout.job_of(name) for name in (mine, of_another, "digits")] == ["digits", "digits-g1-n0-a0", ""]
    assert [layout.generation_of(name) for name in (mine, of_another)] == [12, 3]
