"""How ranks have ended, in words: the first that refused or failed by itself, and the last thing that it said."""

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator.agent.plain_files import open_plain
from orchestrator.agent.run_directory import BAD_INPUT, DRAINED, FINISHED, HOPELESS, RunDirectory
from orchestrator.jobs.instances import TrainerExit

ENDED_BY_US = -signal.SIGTERM
"""The code of a rank that was ended because another had."""

_REFUSALS = (BAD_INPUT, HOPELESS)
_LEAST_TELLING = {BAD_INPUT: -1, HOPELESS: -1, DRAINED: 1, ENDED_BY_US: 1}
"""Order among the exit codes of ranks: who refused knows best why, who drained or was ended knows nothing."""

_TAIL_BYTES = 4096
_LONGEST_LINE = 600
"""Of what a rank said last: a sentence with a remedy or two."""


def well_ended(code: int, step: int | None) -> TrainerExit | None:
    """The end of workers that did as they should, by their exit code; None: they did not."""
    if code == FINISHED:
        return TrainerExit(outcome="finished", code=code, message="finished", step=step)
    if code == DRAINED:
        return TrainerExit(outcome="drained", code=code, message="drained", step=step)
    return None


def common_code(codes: Iterable[int]) -> int:
    """One exit code for all ranks: 75 when they drained. A rank said so, and others did or were ended for it."""
    failures = [code for code in codes if code != FINISHED]
    if not failures:
        return FINISHED
    drained = DRAINED in failures and all(code in (DRAINED, ENDED_BY_US) for code in failures)
    return DRAINED if drained else 1


def failure_of_ranks(
    codes: Mapping[int, int],
    run: RunDirectory,
    *,
    first_rank: int,
    code: int,
    step: int | None,
    known: Mapping[int, str] | None = None,
) -> TrainerExit | None:
    """By the most telling rank, of equals the first in `codes` (from rank to exit code); None: there is none.

    `first_rank`: of this instance. `code`: what all of them together ended with. `known`: reasons that need no other
    words.
    """
    for rank, rank_code in sorted(codes.items(), key=lambda item: _LEAST_TELLING.get(item[1], 0)):
        said = _said_last(run, rank - first_rank)
        why = f"rank {rank} {describe(rank_code)}" + (f": {said}" if said else "")
        if known is not None and rank in known:
            why = f"rank {rank} {known[rank]}"
        if rank_code in _REFUSALS:
            return TrainerExit(outcome="refused", code=rank_code, message=why, step=step)
        return TrainerExit(outcome="failed", code=code, message=why, step=step)
    return None


def describe(code: int) -> str:
    """What an exit code says; a negative one is a signal's."""
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"exited with {code}"


def _said_last(run: RunDirectory, local_rank: int) -> str:
    try:
        logs = run.rank_logs(local_rank)
    except OSError:  # as below
        return ""
    return last_line([log.path for log in logs])


def last_line(paths: Sequence[Path]) -> str:
    """The last line with something in it, of standard error if it has one. What cannot be read says nothing."""
    for path in paths:
        try:
            with open_plain(path) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
                text = file.read(_TAIL_BYTES).decode(errors="replace")
        except OSError:  # there is none, or too many files are open, say
            continue
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1][:_LONGEST_LINE]
    return ""
