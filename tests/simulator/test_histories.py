"""Histories in which everything goes wrong: no invariant breaks, whatever the seed; and every fault really happens."""

import os
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.simulator.faults import Fault
from orchestrator.simulator.fuzz import replay_command, run_seeds
from orchestrator.simulator.history import Outcome, run_history
from orchestrator.simulator.mutations import MUTATIONS, mutated

FAILED_SEEDS = Path(__file__).with_name("failed_seeds.txt")
NEW_SEEDS = 500
CATCH_WITHIN = 2000
CAUGHT_BY: dict[str, tuple[str, ...]] = {
    "no-seal": ("one generation commits", "a seal keeps the checkpoint", "the head's step never goes back"),
    "refetch-and-retry": ("the lease's epoch never goes back", "what a record counts never goes back"),
    "no-nonce": ("the lease's epoch never goes back", "what a record counts never goes back"),
    "launch-before-intent": ("nothing is launched without an intent",),
    "reaper-off": ("nothing is left to do",),  # the agents end themselves within the bound: see the next
    "reaper-and-switch-off": ("every live instance is wanted, or dead within the bound",),
    "dead-mans-switch-off": (
        "every live instance is wanted, or dead within the bound",
        "without a controller everything ends by itself",
    ),
    "collector-ignores-head": ("the head's checkpoint is never removed",),
    "never-retold": ("lost work is at most one checkpoint interval and an upload",),
    "takeover-fails": ("a failure is justified",),
    "never-finishes": ("a failure is justified",),
    "count-doubled": ("no more instances than the rungs need",),
    "secrets-inherited": ("no secret is in any object",),
    "zones-mixed": ("a generation is in one zone",),
    "names-used-again": ("what is charged is what it cost", "a launch that is asked for again is the same"),
    "late-launch-stays": ("a launch that comes too late is undone",),
    "lives-by-wall-clock": ("a budget is used up before it ends a job",),
    "known-by-reply": ("a job is as old as time says",),
    "charges-allowance": ("what is charged is what it cost",),
    "cancel-only-told": ("a granted cancel is carried out",),
    "pause-only-told": ("a granted pause is carried out",),
    "resize-only-told": ("a granted resize is carried out",),
}
"""Per broken elastic, how the violation begins that is due to it and to nothing else."""


def seeds_that_failed() -> list[int]:
    lines = FAILED_SEEDS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def new_seeds() -> range:
    """Others in every run of the checks, and the same again with the same ELASTIC_TEST_SEED."""
    first = 1_000_000 + int(os.environ.get("ELASTIC_TEST_SEED", "0")) * NEW_SEEDS
    return range(first, first + NEW_SEEDS)


@pytest.fixture(scope="module")
def sample() -> list[Outcome]:
    return list(run_seeds(new_seeds(), processes=2))


def broken(outcomes: list[Outcome]) -> str:
    return "\n".join(f"{o.violation}\n    {replay_command(o.seed)}" for o in outcomes if o.violation)


def test_no_history_breaks_an_invariant(sample: list[Outcome]) -> None:
    assert len(sample) == NEW_SEEDS
    assert broken(sample) == ""


def test_what_broke_once_breaks_no_more() -> None:
    seeds = seeds_that_failed()
    assert seeds
    assert broken([run_history(seed) for seed in seeds]) == ""


def test_every_fault_happens_and_jobs_come_to_all_ends(sample: list[Outcome]) -> None:
    """Histories that met no trouble would prove nothing."""
    faults, phases = Counter[Fault](), Counter[str]()
    for outcome in sample:
        faults.update(outcome.faults)
        phases.update(outcome.phases)
    assert set(Fault) - set(faults) == set()
    assert {"succeeded", "failed", "cancelled"} <= set(phases)
    assert phases["succeeded"] > len(sample) / 2
    assert sum(1 for outcome in sample if not outcome.faults) > len(sample) / 50, "some runs are calm"


def test_a_seed_is_one_history() -> None:
    first, second = run_history(11, tell=True), run_history(11, tell=True)
    assert first.story == second.story
    assert first.story != run_history(12, tell=True).story


def test_a_story_tells_who_did_what_and_what_went_wrong() -> None:
    """Whoever is looked for has done something by the end of the story, in the order of time."""
    story = run_history(next(s for s in range(50) if run_history(s).faults[Fault.CRASH_AFTER]), tell=True).story
    assert any("submit1" in line and "writes jobs/job0/record.json" in line for line in story)
    assert any("!! " in line and "the process dies after the call" in line for line in story)
    assert any("the cloud starts job0-g1-n0-a0" in line for line in story)
    times = [
        float(minutes) * 60 + float(seconds) for minutes, seconds in (line.split()[0].split(":") for line in story)
    ]
    assert times == sorted(times)


@pytest.mark.parametrize("mutation", CAUGHT_BY)
def test_a_broken_elastic_is_caught_by_the_rule_that_it_breaks(mutation: str) -> None:
    with mutated(mutation):
        violations = (o.violation for o in map(run_history, range(CATCH_WITHIN)) if o.violation)
        caught = next((v for v in violations if v.startswith(CAUGHT_BY[mutation])), None)
    assert caught is not None, f"{CATCH_WITHIN} histories of an elastic with {mutation} do not show it"


def test_of_every_broken_elastic_it_is_said_what_catches_it() -> None:
    assert set(CAUGHT_BY) == set(MUTATIONS)


def test_what_was_broken_is_whole_again() -> None:
    with mutated("reaper-off"):
        assert run_history(0).violation
    assert run_history(0).violation is None
