"""One generation on this instance: restore, run, drain, commit what is left, say how it ended."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from orchestrator.agent.checkpoints import Committer, Lineage, Tell, restore
from orchestrator.agent.images import BadFolder, Bringing, Interrupted
from orchestrator.agent.launcher import Workers
from orchestrator.agent.logs import LogShipper, Stream
from orchestrator.agent.run_directory import BAD_INPUT, DRAINED, ProgressReader, RunDirectory, as_activity, as_progress
from orchestrator.jobs import layout
from orchestrator.jobs.head import NotYetAssigned, Superseded
from orchestrator.jobs.instances import Assignment, TrainerExit, TrainerProgress
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store, StoreError

LOG_TAIL_TIMEOUT_S = 10.0
RESTORE_RETRY_S = 2.0
ASK_AGAIN_AFTER_S = 5.0

State = Literal["restoring", "running", "draining", "stopped"]


class GenerationRun:
    """The workers of one generation on one instance. `advance` is called often and never waits."""

    def __init__(
        self,
        *,
        store: Store,
        assignment: Assignment,
        directory: Path,
        image_cache: Path,
        workers: Workers,
        gpus: tuple[int, ...],
        own_address: str,
        nonce: Nonce,
        tell: Tell,
        log: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = assignment.generation
        self.epoch = assignment.epoch
        self.workers = workers
        self.state: State = "restoring"
        self.exit: TrainerExit | None = None
        self.progress: TrainerProgress | None = None
        self.activity = ""
        """What is being done before the first step. A change of it is a sign of life."""
        self.complaint = ""
        """What keeps images or checkpoint from coming; no sign of life, however it changes."""
        self._store = store
        self._assignment = assignment
        self._run = RunDirectory(directory / f"run-g{assignment.generation:06d}")
        self._image_cache = image_cache
        self._gpus = gpus
        self._own_address = own_address
        self._nonce = nonce
        self._tell = tell
        self._log = log
        self._monotonic = monotonic
        self._ask_again_at = 0.0
        self._reader = ProgressReader(self._run.progress)
        self._committer: Committer | None = None
        self._shipper: LogShipper | None = None
        self._ended: TrainerExit | None = None
        self._drain_asked = False
        self._stop_asked = ""
        self._resume_step: int | None = None
        self._refusal = ""
        self._fault = ""
        self._fetching = "images"
        self._told_of: set[tuple[str, type[Exception]]] = set()
        self._ending = threading.Event()
        self._restored = threading.Event()
        self._restorer = threading.Thread(target=self._restore, name="restore", daemon=True)
        self._restorer.start()

    @property
    def stepping(self) -> bool:
        """Whether a step of this generation was seen and the workers still run."""
        return self.progress is not None and self._ended is None

    @property
    def committed_step(self) -> int | None:
        return self._committer.committed_step if self._committer else None

    def drain(self, why: str) -> None:
        """Ask the workers to checkpoint and end; asking again is asking once."""
        if self._drain_asked or self._stop_asked or self.exit is not None:
            return
        self._log(f"generation {self.number}: draining: {why}")
        self._drain_asked = True
        self._ending.set()
        if self.state == "running":
            self._ask_to_drain()

    def stop(self, why: str) -> None:
        """End the workers at once; nothing more of theirs is committed."""
        if self._stop_asked or self.exit is not None:
            return
        self._log(f"generation {self.number}: stopping: {why}")
        self._stop_asked = why
        self._ending.set()
        self.workers.kill()
        if self._committer:
            self._committer.abandon()
        if self._ended is not None and self._ended.outcome == "finished":
            self._ended = self._stopped()  # its last checkpoint was not committed: it has not finished

    def advance(self) -> bool:
        """Go on with whatever is due; True when the first new step has just been seen."""
        if self.state == "restoring":
            self._after_restoring()
            return False
        if self.exit is not None:
            return False
        first = self._read_progress()
        if self.state == "draining" and self._ended is None:
            self._ask_to_drain()
        if self._committer is not None and self._committer.crashed and self._committer.done and not self._stop_asked:
            self._committer_crashed()
            return first
        done = self._committer is None or self._committer.done  # read first: whether it was superseded is known then
        if self._committer is not None and self._committer.superseded and not self._stop_asked:
            self.stop("a newer generation has sealed the head")
        if self._ended is None:
            self._ended = self.workers.poll(self.progress.step if self.progress else None)
            if self._ended is not None:
                self._read_progress()
                self._after_workers_ended()
        if self._ended is not None and (self._stop_asked or done):
            self._finish(self._doubted(self._ended))
        return first

    def _ask_to_drain(self) -> None:
        """Ask the ranks that were not asked before; from time to time, all of them."""
        self.state = "draining"
        now = self._monotonic()
        again = now >= self._ask_again_at
        if again:
            self._ask_again_at = now + ASK_AGAIN_AFTER_S
        self.workers.ask_to_drain(again=again)

    def _restore(self) -> None:
        """In a thread: bring images and checkpoint; a store may be away for a while, or the disk full."""
        try:
            while not (self._stop_asked or self._drain_asked or self._refusal or self._resume_step is not None):
                self._try_to_restore()
        except Exception as error:
            self._fault = f"the {self._fetching} could not be fetched ({type(error).__name__}: {error}): see agent.log"
            raise  # for the agent's log
        finally:
            self._restored.set()

    def _try_to_restore(self) -> None:
        try:
            self._fetching = "images"
            training = self._bringing().localized(self._assignment.training)
            self._fetching = "checkpoint"
            self._run.prepare(training)
            assignment = self._assignment.model_copy(update={"epoch": self.epoch})
            self._resume_step = restore(self._store, assignment, self._run, self._nonce, self._tell)
        except BadFolder as error:
            if self._assignment.resume is None:
                self._refusal = str(error)
            else:  # the same order has trained before: what is wrong now may be put right
                self._wait_after(error)
        except Interrupted:
            return
        except Superseded as superseded:
            self._stop_asked = str(superseded)
        except NotYetAssigned:
            self._restored.wait(RESTORE_RETRY_S)
        except (StoreError, OSError) as error:
            self._wait_after(error)

    def _wait_after(self, error: Exception) -> None:
        """What may pass is told once until files come again, and shown as long as it lasts."""
        self.complaint = f"the {self._fetching} cannot be fetched yet, trying again: {error}"
        kind = (self._fetching, type(error))
        if kind not in self._told_of:
            self._told_of.add(kind)
            self._tell("note", self.complaint)
        self._restored.wait(RESTORE_RETRY_S)

    def _bringing(self) -> Bringing:
        return Bringing(
            cache=self._image_cache,
            job=f"{self._store.url} {self._assignment.job}",
            doing=self._do,
            tell=lambda message: self._tell("note", message),
            ending=self._ending,
            came=self._came_further,
        )

    def _do(self, activity: str) -> None:
        if not self.complaint:  # trying the same again and again is no sign of life
            self.activity = activity

    def _came_further(self) -> None:
        self.complaint = ""
        self._told_of.clear()

    def _after_restoring(self) -> None:
        if not self._restored.is_set() and self._restorer.is_alive():
            return
        if self._stop_asked or self._drain_asked:
            self._finish(TrainerExit(outcome="drained", code=DRAINED, message="ended before the workers started"))
            return
        if self._refusal:
            self._finish(TrainerExit(outcome="refused", code=BAD_INPUT, message=self._refusal))
            return
        if self._resume_step is None:  # a fault in restoring itself: its traceback is in the agent's log
            message = self._fault or "images and checkpoint could not be fetched: see agent.log"
            self._finish(TrainerExit(outcome="failed", code=1, message=message))
            return
        self.activity = self.complaint = ""
        self.workers.start(self._run, self._assignment, own_address=self._own_address, gpus=self._gpus)
        lineage = Lineage(job=self._assignment.job, generation=self.number, epoch=lambda: self.epoch)
        if self._assignment.node_rank == 0:
            kept = self._assignment.checkpoints_kept
            self._committer = Committer(self._store, lineage, self._run, kept, self._nonce, self._tell)
        self._shipper = LogShipper(self._store, self._streams())
        self.state = "running"

    def _read_progress(self) -> bool:
        """Take in new progress lines; True when the first of this generation is among them."""
        first = False
        for line in self._reader.lines():
            report = as_progress(line)
            if report is not None:
                first = first or self.progress is None
                self.progress = report
                self.activity = ""
            elif isinstance(line.get("note"), str):
                self._tell("note", line["note"])
            elif self.progress is None:
                self.activity = as_activity(line) or self.activity
        return first

    def _after_workers_ended(self) -> None:
        if self._stop_asked:
            self._ended = self._stopped()
        elif self._ended is not None and self._ended.outcome in ("failed", "refused") and self._drain_asked:
            message = f"ended while draining: {self._ended.message}"
            self._ended = TrainerExit(outcome="drained", code=self._ended.code, message=message, step=self._last_step)
        if self._committer:
            self._committer.settle()

    def _doubted(self, ended: TrainerExit) -> TrainerExit:
        """An order that has trained before is not a bad one: what refuses it now may pass, as a network's absence does.

        Only the number of failures in a row ends it then.
        """
        has_trained = not (self._assignment.resume is None and self.progress is None and self.committed_step is None)
        if ended.outcome == "refused" and ended.code == BAD_INPUT and has_trained:
            return ended.model_copy(update={"outcome": "failed"})
        return ended

    def _committer_crashed(self) -> None:
        """Training on without checkpoints would be for nothing: fail, so that the next generation tries again."""
        self.workers.kill()
        message = "the agent's committer has ended by a fault of its own: see agent.log"
        self._finish(TrainerExit(outcome="failed", code=1, message=message, step=self._last_step))

    def _stopped(self) -> TrainerExit:
        return TrainerExit(outcome="drained", code=DRAINED, message=self._stop_asked, step=self._last_step)

    @property
    def _last_step(self) -> int | None:
        return self.progress.step if self.progress else None

    def _finish(self, ended: TrainerExit) -> None:
        self.workers.kill()  # ranks that outlived their launcher
        if self._shipper:
            self._shipper.finish(LOG_TAIL_TIMEOUT_S)
        self.state = "stopped"
        self.exit = ended

    def _streams(self) -> list[Stream]:
        job, number, node = self._assignment.job, self.number, self._assignment.node_rank

        def rank_stream(local_rank: int) -> Stream:
            rank = node * self._assignment.workers + local_rank
            return Stream(
                files=lambda: self._run.rank_logs(local_rank),
                key=lambda chunk: layout.log_key(job, number, layout.rank_stream(rank), chunk),
            )

        def launcher_key(chunk: int) -> str:
            return layout.log_key(job, number, layout.launcher_stream(node), chunk)

        streams = [rank_stream(local_rank) for local_rank in range(self._assignment.workers)]
        streams.append(Stream(files=lambda: [self.workers.log_path], key=launcher_key))
        if node == 0:
            streams.append(
                Stream(files=lambda: [self._run.progress], key=lambda chunk: layout.progress_key(job, number, chunk))
            )
        return streams
