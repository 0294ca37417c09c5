"""What is not in the tables is refused, and everything in them can happen."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from orchestrator.jobs.phases import (
    GENERATION_TRANSITIONS,
    JOB_TRANSITIONS,
    GenerationPhase,
    IllegalTransition,
    JobPhase,
    check_generation_transition,
    check_job_transition,
)

TABLES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]], Callable[[Any, Any], None], StrEnum]] = [
    (JobPhase, JOB_TRANSITIONS, check_job_transition, JobPhase.PENDING),
    (GenerationPhase, GENERATION_TRANSITIONS, check_generation_transition, GenerationPhase.PROVISIONING),
]
STEPS = [(check, table, old, new) for phases, table, check, _ in TABLES for old, new in product(phases, phases)]


@pytest.mark.parametrize(
    ("check", "table", "old", "new"), STEPS, ids=[f"{type(old).__name__}-{old}-{new}" for _, _, old, new in STEPS]
)
def test_a_step_is_allowed_exactly_if_the_table_lists_it(
    check: Callable[[Any, Any], None], table: Mapping[Any, frozenset[Any]], old: StrEnum, new: StrEnum
) -> None:
    if new in table[old]:
        check(old, new)
    else:
        with pytest.raises(IllegalTransition, match=f"from {old} to {new}"):
            check(old, new)


@pytest.mark.parametrize(("phases", "table", "_check", "first"), TABLES)
def test_every_phase_is_listed_and_can_be_reached(
    phases: type[StrEnum], table: Mapping[Any, frozenset[Any]], _check: object, first: StrEnum
) -> None:
    assert set(table) == set(phases)
    reached, frontier = {first}, {first}
    while frontier:
        frontier = {new for old in frontier for new in table[old]} - reached
        reached |= frontier
    assert reached == set(phases)


@pytest.mark.parametrize(("phases", "table", "_check", "_first"), TABLES)
def test_from_every_phase_there_is_a_way_to_an_end(
    phases: type[StrEnum], table: Mapping[Any, frozenset[Any]], _check: object, _first: StrEnum
) -> None:
    ending = {phase for phase in phases if not table[phase]}
    assert ending
    for _ in phases:
        ending |= {phase for phase in phases if table[phase] & ending}
    assert ending == set(phases)


def test_a_job_is_over_when_nothing_can_follow() -> None:
    assert {phase for phase in JobPhase if phase.over} == {JobPhase.SUCCEEDED, JobPhase.FAILED, JobPhase.CANCELLED}


@pytest.mark.parametrize("phases_and_table", TABLES, ids=["job", "generation"])
def test_no_phase_follows_itself(
    phases_and_table: tuple[type[StrEnum], Mapping[Any, frozenset[Any]], object, object],
) -> None:
    phases, table, _, _ = phases_and_table
    assert all(phase not in table[phase] for phase in phases)
