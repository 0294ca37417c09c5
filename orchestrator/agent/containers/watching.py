"""The ranks of a generation from their start to their end: signals that were asked for, who has ended, and how."""

import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.agent.containers.asking import AGAIN_AFTER_S, Engine
from orchestrator.agent.containers.ends import REMOVED, end_of, failed, failing, outcome
from orchestrator.agent.containers.ranks import Crew
from orchestrator.agent.containers.standing import Rank, Standing, Wishes
from orchestrator.agent.containers.starting import state_of
from orchestrator.agent.run_directory import FINISHED
from orchestrator.fleets.engine import RUN_LABEL
from orchestrator.jobs.instances import TrainerExit

if TYPE_CHECKING:
    from docker import DockerClient

TOGETHER_WITHIN_S = 2.0
"""When one rank has failed the others see it by themselves, as a rule; those that have not by then are ended."""
DRAIN_TOGETHER_WITHIN_S = 30.0
"""The same after one that has drained: the others are asked to."""
LAST_LINES_WITHIN_S = 5.0


class Watch:
    """Looks at the ranks that have begun, again and again."""

    def __init__(
        self,
        engine: Engine,
        crew: Crew,
        wishes: Wishes,
        standing: Standing,
        say: Callable[[str], None],
        drain: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        """`drain` asks all ranks to."""
        self._engine = engine
        self._crew = crew
        self._wishes = wishes
        self._standing = standing
        self._say = say
        self._drain = drain
        self._monotonic = monotonic
        self._first_end_at: float | None = None

    def look(self) -> Generator[float, None, TrainerExit | None]:
        """Do what was asked, see who has ended; how all of them ended, once they have."""
        listed = yield from self._engine.ask(
            lambda client: client.api.containers(all=True, filters={"label": f"{RUN_LABEL}={self._crew.run.path}"})
        )
        after_outage = self._engine.was_away()
        states = {row["Id"]: row["State"] for row in listed}
        ranks = self._standing.ranks
        for rank in ranks:
            if rank.end is not None:
                continue
            if rank.container_id not in states:
                rank.end = REMOVED
            elif states[rank.container_id] in ("exited", "dead") or rank.pid is None:
                yield from self._engine.ask(partial(self._inspect, rank=rank, after_outage=after_outage))
            if rank.end is not None:
                self._say(f"rank {rank.number} has ended with {rank.end.code} {rank.end.why}".rstrip())
        yield from self._engine.ask(self._signal)
        if all(rank.end is not None for rank in ranks):
            yield from self._take_last_lines()
            return self._outcome()
        yield from self._end_the_others()
        return None

    def _inspect(self, client: "DockerClient", rank: Rank, after_outage: bool) -> None:
        state = state_of(client, rank.container_id)
        rank.end = end_of(
            state,
            ended_by_us=rank.ended_by_us,
            after_outage=after_outage,
            memory_bytes=self._crew.assignment.memory_bytes,
        )
        rank.pid = state.get("Pid") or None

    def _signal(self, client: "DockerClient") -> None:
        """What was asked for since the last look. A rank that has only begun may not know the signal yet."""
        wishes = self._wishes
        rounds, stacks, wishes.stacks = wishes.drain_rounds, wishes.stacks, False
        for rank in self._standing.ranks:
            if rank.end is not None:
                continue
            if stacks:
                _send(client, rank, signal.SIGUSR1)
            if rank.asked >= rounds:
                continue
            if _heeds(rank.pid, signal.SIGTERM):
                _send(client, rank, signal.SIGTERM)
                rank.asked = rounds
            elif rounds > 1:
                # As the first process of its container it is not ended by a signal that it does not know.
                self._say(f"rank {rank.number} does not know SIGTERM: it is ended")
                rank.ended_by_us = True
                _send(client, rank, signal.SIGKILL)
                rank.asked = rounds

    def _end_the_others(self) -> Iterator[float]:
        """When one has failed, or drained, the others are not to go on."""
        ends = [rank.end for rank in self._standing.ranks if rank.end is not None and rank.end.code != FINISHED]
        if not ends:
            return
        now = self._monotonic()
        if self._first_end_at is None:
            self._first_end_at = now
            if not failing(ends):
                self._drain()
        within_s = TOGETHER_WITHIN_S if failing(ends) else DRAIN_TOGETHER_WITHIN_S
        if now - self._first_end_at < within_s:
            yield AGAIN_AFTER_S
            return
        for rank in self._standing.ranks:
            if rank.end is None:
                rank.ended_by_us = True
                yield from self._engine.ask(partial(_send, rank=rank, number=signal.SIGKILL))

    def _outcome(self) -> TrainerExit:
        ends = {rank.number: rank.end for rank in self._standing.ranks if rank.end is not None}
        first_rank = self._crew.global_rank(0)
        if self._standing.is_incomplete and ends[first_rank].code == FINISHED:
            return failed(f"rank {first_rank} ended before the others had begun")
        return outcome(ends, self._crew.run, first_rank)

    def _take_last_lines(self) -> Iterator[float]:
        """What they said last is why they ended."""
        followers = [follower for rank in self._standing.ranks for follower in rank.followers]
        for follower in followers:
            follower.finish()
        until = self._monotonic() + LAST_LINES_WITHIN_S
        while self._monotonic() < until and not all(follower.done for follower in followers):
            yield 0.02


def _send(client: "DockerClient", rank: Rank, number: signal.Signals) -> None:
    from docker.errors import APIError

    try:
        client.api.kill(rank.container_id, number.name)
    except APIError:
        return  # it has ended meanwhile: the next look tells how


def _heeds(pid: int | None, number: signal.Signals) -> bool:
    """Whether a process catches or ignores a signal; true where that cannot be told."""
    try:
        # The kernel cuts a name after 15 bytes, which may be within a character.
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").split("\n")
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in lines if line.startswith(("SigCgt:", "SigIgn:")))
    return not fields or any(int(mask, 16) >> (number - 1) & 1 for mask in fields.values())
