"""Asking the Docker engine, which may be away for a while: again and again, for so long."""

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, TypeVar

from orchestrator.fleets.engine import EngineError, connect, is_absence, is_refusal, unreachable

if TYPE_CHECKING:
    from docker import DockerClient

T = TypeVar("T")

AGAIN_AFTER_S = 0.5


class EngineAway(Exception):
    """The engine has been away for longer than anybody waits, or will never answer."""

    def __init__(self, error: EngineError, away_s: float, *, has_answered: bool) -> None:
        super().__init__(str(error))
        self.away_s = away_s
        self.has_answered = has_answered


class EngineRefused(Exception):
    """The engine is there and says no, where nothing but yes was expected."""


class Killed(Exception):
    """Nobody wants an answer any more."""


class Engine:
    """The engine as the thread of some workers asks it. Others only read when it went away."""

    def __init__(
        self,
        environ: Mapping[str, str],
        monotonic: Callable[[], float],
        missed: Callable[[EngineError], None],
        is_killed: Callable[[], bool],
        *,
        first_answer_s: float,
        away_s: float,
    ) -> None:
        """`missed` is told each time that it does not answer. It is waited for `first_answer_s`, later `away_s`."""
        self.away_since: float | None = None
        """When it was first missed, until it answers."""
        self._environ = environ
        self._monotonic = monotonic
        self._missed = missed
        self._is_killed = is_killed
        self._first_answer_s = first_answer_s
        self._away_s = away_s
        self._client: DockerClient | None = None
        self._has_answered = False
        self._was_away = False

    @property
    def client(self) -> "DockerClient":
        """The way to it, once it has answered."""
        assert self._client is not None, "nobody has asked it yet"
        return self._client

    def ask(self, what: "Callable[[DockerClient], T]") -> Generator[float, None, T]:
        """The answer, when there is one; yields after how many seconds to go on.

        Raises EngineAway, EngineRefused, Killed.
        """
        while True:
            if self._is_killed():
                raise Killed
            try:
                return self.ask_once(what)
            except EngineError as error:
                self._missed(error)
                assert self.away_since is not None
                away_s = self._monotonic() - self.away_since
                if not error.may_pass or away_s >= (self._away_s if self._has_answered else self._first_answer_s):
                    raise EngineAway(error, away_s, has_answered=self._has_answered) from error
            yield AGAIN_AFTER_S

    def ask_once(self, what: "Callable[[DockerClient], T]") -> T:
        """The answer. Raises EngineError when there is none, EngineRefused."""
        try:
            if self._client is None:
                self._client = connect(self._environ)
            answer = what(self._client)
        except EngineError:
            self._note_absence()
            raise
        except Exception as error:
            if is_absence(error):
                self._note_absence()
                raise unreachable(error, self._environ) from error
            if is_refusal(error):
                said = " ".join(str(error).split())
                raise EngineRefused(f"the Docker engine refuses what was asked of it: {said}") from error
            raise
        self._has_answered, self.away_since = True, None
        return answer

    def was_away(self) -> bool:
        """Whether it was missed since the last call."""
        was, self._was_away = self._was_away, False
        return was

    def close(self) -> None:
        """Nothing more is asked."""
        if self._client is not None:
            self._client.close()

    def _note_absence(self) -> None:
        self._was_away = True
        if self.away_since is None:
            self.away_since = self._monotonic()
