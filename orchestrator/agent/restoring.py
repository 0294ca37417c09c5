"""What a generation needs before its workers start: images and the checkpoint to resume from, brought here."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from orchestrator.agent.background import in_pieces
from orchestrator.agent.checkpoints import Tell, restore
from orchestrator.agent.equipment import Asker, Equipment, Run
from orchestrator.agent.images import BadFolder, Interrupted
from orchestrator.jobs.head import NotYetAssigned, Superseded
from orchestrator.jobs.instances import Assignment
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store, StoreError

RETRY_S = 2.0


class Restoring:
    """Work in the background until all is there; a store may be away for a while, or the disk full."""

    def __init__(
        self,
        store: Store,
        assignment: Assignment,
        epoch: Callable[[], int],
        run: Run,
        equipment: Equipment,
        nonce: Nonce,
        tell: Tell,
    ) -> None:
        self.activity = ""
        """What is being done. A change of it is a sign of life."""
        self.complaint = ""
        """What keeps images or checkpoint from coming; no sign of life, however it changes."""
        self.resume_step: int | None = None
        """Once all is there: the step to go on from."""
        self.refusal = ""
        """Why it cannot be done as asked."""
        self.superseded = ""
        """By whom, if this generation has ended before it began."""
        self.fault = ""
        """What has gone wrong in here."""
        self._store = store
        self._assignment = assignment
        self._epoch = epoch
        self._run = run
        self._nonce = nonce
        self._tell = tell
        self._prepared = False
        self._fetching = "images"
        self._told_of: set[tuple[str, type[Exception]]] = set()
        self._ending = threading.Event()
        self._images = equipment.images(
            Asker(
                job=f"{store.url} {assignment.job}",
                doing=self._do,
                tell=lambda message: tell("note", message),
                ending=self._ending,
                came=self._came_further,
            )
        )
        self._next = in_pieces(self._pieces())
        self._task = equipment.background.start(self._step, "restore")

    @property
    def done(self) -> bool:
        """Whether it has ended, however."""
        return self._task.done

    def end(self) -> None:
        """Nobody waits for it any more; `done` tells when it has ended."""
        self._ending.set()
        self._task.wake()

    def _step(self) -> float | None:
        return None if self._ending.is_set() else self._next()

    def _pieces(self) -> Iterator[float]:
        try:
            while not (self.refusal or self.superseded or self.resume_step is not None):
                yield (yield from self._try())
        except Exception as error:
            self.fault = f"the {self._fetching} could not be fetched ({type(error).__name__}: {error}): see agent.log"
            raise  # for the agent's log

    def _try(self) -> Generator[float, None, float]:
        """Bring what is missing; returns after how many seconds to look again."""
        try:
            if not self._prepared:
                self._fetching = "images"
                training = self._training()
                self._fetching = "checkpoint"
                self._run.prepare(training)
                self._prepared = True
                yield 0.0
            assignment = self._assignment.model_copy(update={"epoch": self._epoch()})
            self.resume_step = yield from restore(self._store, assignment, self._run, self._nonce, self._tell)
        except BadFolder as error:
            if self._assignment.resume is None:
                self.refusal = str(error)
            else:  # the same order has trained before: what is wrong now may be put right
                return self._wait_after(error)
        except Interrupted:
            return 0.0
        except Superseded as superseded:
            self.superseded = str(superseded)
        except NotYetAssigned:
            return RETRY_S
        except (StoreError, OSError) as error:
            return self._wait_after(error)
        return 0.0

    def _training(self) -> Mapping[str, Any]:
        """The config with its images on this machine; what a person's own program makes of its own is its affair."""
        config = self._assignment.training
        return self._images.localized(config) if self._assignment.program is None else config

    def _wait_after(self, error: Exception) -> float:
        """What may pass is told once until files come again, and shown as long as it lasts."""
        self.complaint = f"the {self._fetching} cannot be fetched yet, trying again: {error}"
        kind = (self._fetching, type(error))
        if kind not in self._told_of:
            self._told_of.add(kind)
            self._tell("note", self.complaint)
        return RETRY_S

    def _do(self, activity: str) -> None:
        if not self.complaint:  # trying the same again and again is no sign of life
            self.activity = activity

    def _came_further(self) -> None:
        self.complaint = ""
        self._told_of.clear()
