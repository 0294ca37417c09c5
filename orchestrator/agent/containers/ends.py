"""How ranks in containers have ended, by the engine's account of them and the last lines that they printed."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.agent.exits import ENDED_BY_US, common_code, failure_of_ranks, well_ended
from orchestrator.agent.run_directory import DRAINED, FINISHED, RunDirectory
from orchestrator.jobs.instances import TrainerExit
from orchestrator.spec.units import format_size

UNKNOWN_EXIT = 255
"""What the engine says of a container that ended while it was away."""


@dataclass(frozen=True)
class RankEnd:
    """How a rank ended."""

    code: int
    """Negative after a signal."""
    at: str = ""
    """When, in the engine's words; they sort."""
    why: str = ""
    """What the exit code does not say."""
    with_engine: bool = False
    """Whether it ended with the engine that ran it."""


REMOVED = RankEnd(-signal.SIGKILL, why="has lost its container: somebody has removed it")


def end_of(
    state: Mapping[str, Any], *, ended_by_us: bool, after_outage: bool, memory_bytes: int | None
) -> RankEnd | None:
    """How a container ended, by the `State` that the engine tells of it; None: it has not.

    `after_outage`: the engine was away since it was last seen to run. `memory_bytes`: its limit.
    """
    if not state:
        return REMOVED
    if state.get("Status") not in ("exited", "dead"):
        return None
    at, code = str(state.get("FinishedAt", "")), _exit_code(int(state.get("ExitCode", UNKNOWN_EXIT)))
    if ended_by_us:
        return RankEnd(ENDED_BY_US, at)
    if state.get("OOMKilled") and code not in (FINISHED, DRAINED):
        return RankEnd(code, at, _out_of_memory(memory_bytes))
    ended_with_engine = after_outage and code in (-signal.SIGKILL, -signal.SIGTERM, UNKNOWN_EXIT)
    return RankEnd(code, at, with_engine=ended_with_engine)


def outcome(ends: Mapping[int, RankEnd], run: RunDirectory, first_rank: int) -> TrainerExit:
    """How the ranks of an instance ended together, by rank."""
    lost = [rank for rank, end in ends.items() if end.with_engine]
    if lost:
        message = f"the Docker engine was started again, and rank {lost[0]} ended with it"
        return TrainerExit(outcome="lost", code=1, message=message)
    in_order = dict(sorted(ends.items(), key=lambda each: each[1].at))
    code = common_code(end.code for end in ends.values())
    failure = well_ended(code, None) or failure_of_ranks(
        {rank: end.code for rank, end in in_order.items() if end.code != FINISHED},
        run,
        first_rank=first_rank,
        code=code,
        step=None,
        known={rank: end.why for rank, end in ends.items() if end.why},
    )
    assert failure is not None, "a common code that is neither finished nor drained has a rank that failed"
    return failure


def failed(message: str) -> TrainerExit:
    """That there was no more to be had than this."""
    return TrainerExit(outcome="failed", code=1, message=message)


def failing(ends: Sequence[RankEnd]) -> bool:
    """Whether any of these has done neither: finished or drained."""
    return any(end.code not in (FINISHED, DRAINED) for end in ends)


def _out_of_memory(limit_bytes: int | None) -> str:
    if limit_bytes is None:
        return "was ended by the kernel: the machine has no memory left for it"
    return f"was ended by the kernel: it used its {format_size(limit_bytes)} of memory; raise resources.memory"


def _exit_code(code: int) -> int:
    """As processes have it: negative after a signal, where containers add 128."""
    return 128 - code if 128 < code < UNKNOWN_EXIT else code
