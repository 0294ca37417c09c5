"""One generation on this instance: restore, run, drain, commit what is left, say how it ended.

Nothing here waits. What takes time is asked for, and later turns see that it is done, or that its time is up.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from orchestrator.agent.checkpoints import Committer, Lineage, Tell
from orchestrator.agent.equipment import Equipment, LogFile, Place, UnfitCheckpoint, Workers
from orchestrator.agent.logs import LogShipper, Stream
from orchestrator.agent.restoring import Restoring
from orchestrator.agent.run_directory import (
    BAD_INPUT,
    DRAINED,
    HOPELESS,
    as_activity,
    as_note,
    as_progress,
    printable,
)
from orchestrator.agent.uncommitted import Uncommitted
from orchestrator.jobs import layout
from orchestrator.jobs.instances import Assignment, TrainerExit, TrainerProgress
from orchestrator.jobs.pace import Pace
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import Store

ABANDON_WITHIN_S = 30.0
"""Restoring or committing that was told to end and has not by then is left to itself: whatever it still wants to
commit is fenced, like that of an agent that is cut off."""
TAIL_WITHIN_S = 10.0
"""The last lines of the log that are not shipped by then are lost; and processes not gone by then will never go."""
ASK_AGAIN_AFTER_S = 5.0
DRAIN_WITHIN_S = 300.0
"""Workers that have not ended by then will not. A controller that is there gives up on them earlier."""
COMMIT_WITHIN_S = 900.0
"""After the workers have ended: what nobody can commit for so long does not keep an instance for ever."""
DUMP_WITHIN_S = 2.0
"""Between the question where the workers are and their end."""
_SHOWN_OF_LINE = 80

State = Literal["restoring", "running", "draining", "stopped"]


class GenerationRun:
    """The workers of one generation on one instance. `advance` is called often and never waits."""

    def __init__(
        self,
        *,
        store: Store,
        assignment: Assignment,
        workers: Workers,
        place: Place,
        equipment: Equipment,
        pace: Pace,
        nonce: Nonce,
        tell: Tell,
        log: Callable[[str], None],
    ) -> None:
        self.number = assignment.generation
        self.epoch = assignment.epoch
        self.workers = workers
        self.state: State = "restoring"
        self.exit: TrainerExit | None = None
        self.progress: TrainerProgress | None = None
        self._store = store
        self._assignment = assignment
        self._place = place
        self._equipment = equipment
        self._pace = pace
        self._nonce = nonce
        self._tell = tell
        self._log = log
        self._run = equipment.run_directory(self.number)
        self._committer: Committer | None = None
        self._shipper: LogShipper | None = None
        self._shipper_missed = False
        self._said = ""
        self._strange_told = False
        self._ended: TrainerExit | None = None
        self._concluding: TrainerExit | None = None
        self._conclude_by = 0.0
        self._drain_asked = False
        self._stop_asked = ""
        self._drain_by = self._commit_by = self._abandon_by = self._kill_at = math.inf
        self._ask_again_at = 0.0
        self._uncommitted = Uncommitted(assignment.checkpoint_every_s)
        self._restoring = Restoring(store, assignment, lambda: self.epoch, self._run, equipment, nonce, tell)

    @property
    def activity(self) -> str:
        """What is being done before the first step. A change of it is a sign of life."""
        return self._restoring.activity if self.state == "restoring" else self._said or self.workers.activity

    @property
    def complaint(self) -> str:
        """What keeps images or checkpoint from coming, or checkpoints from going; no sign of life."""
        return self._restoring.complaint if self.state == "restoring" else self._uncommitted.complaint

    @property
    def measured(self) -> bool:
        """Whether how busy the workers are counts: they run, and on the first node a step was seen.

        A trainer may report on the first node alone. The samples of the others count from their start: they are the
        newest that are looked at, and only when the first node has so many since its first step.
        """
        runs = self.state in ("running", "draining") and self._ended is None and self._concluding is None
        return runs and (self.progress is not None or self._assignment.node_rank > 0)

    @property
    def trains(self) -> bool:
        """Whether the workers make steps, and were not told to end."""
        return self.measured and self.state == "running" and not self._stop_asked

    @property
    def reports_nothing(self) -> bool:
        """Whether this is another node than the first, whose trainer says nothing of how far it is."""
        return self._assignment.node_rank > 0 and self.progress is None and self.state in ("running", "draining")

    @property
    def committed_step(self) -> int | None:
        return self._committer.committed_step if self._committer else None

    @property
    def uncommitted_s(self) -> float:
        """For how long there have been steps of which none is committed."""
        return self._uncommitted.seconds(self._equipment.monotonic())

    def drain(self, why: str) -> None:
        """Ask the workers to checkpoint and end; asking again is asking once."""
        if self._drain_asked or self._stop_asked or self._over:
            return
        self._log(f"generation {self.number}: draining: {why}")
        self._drain_asked = True
        self._drain_by = self._equipment.monotonic() + DRAIN_WITHIN_S
        if self.state == "running":
            self._ask_to_drain()
        else:
            self._end_restoring()

    def stop(self, why: str, *, dump_stacks: bool = False) -> None:
        """End the workers at once; nothing more of theirs is committed. First they may say where they stand still."""
        if self._stop_asked or self._over:
            return
        self._log(f"generation {self.number}: stopping: {why}")
        self._stop_asked = why
        self._kill(dump_stacks and self._ended is None and self.state != "restoring")
        self._end_restoring()
        if self._committer:
            self._committer.abandon()
        final_committed = self._committer is not None and self._committer.final_committed
        if self._ended is not None and self._ended.outcome == "finished" and not final_committed:
            self._ended = self._stopped()  # its last checkpoint was not committed: it has not finished

    def advance(self) -> bool:
        """Go on with whatever is due; True when from now on it counts anew how busy the workers are."""
        if self.exit is not None:
            return False
        if self._concluding is not None:
            self._conclude(self._concluding)
            return False
        if self.state == "restoring":
            self._after_restoring()
            return self.measured
        first = self._read_progress()
        self._keep_time()
        if self.state == "draining" and self._ended is None:
            self._ask_to_drain()
        committed = self._committer is None or self._committer.done  # read first: how it ended is known then
        self._follow_committer()
        self._follow_shipper()
        if self._concluding is None:
            self._follow_workers(committed or self._abandoned)
        return first

    # --- the ways to an end ------------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self.exit is not None or self._concluding is not None

    def _kill(self, dump_stacks: bool) -> None:
        if not dump_stacks:
            self.workers.kill()
            return
        self.workers.dump_stacks()
        self._kill_at = self._equipment.monotonic() + DUMP_WITHIN_S
        self._tell("note", "the workers stand still: where each thread of theirs is, is in the log of each rank")

    def _keep_time(self) -> None:
        """Whatever does not come to its end by itself is brought to it."""
        now = self._equipment.monotonic()
        if now >= self._kill_at:
            self._kill_at = math.inf
            self.workers.kill()
        if self._ended is None and now > self._drain_by:
            self.stop(f"the workers did not drain within {DRAIN_WITHIN_S:g} s", dump_stacks=True)
        elif self._ended is not None and now > self._commit_by:
            self.stop(f"what was left could not be committed within {COMMIT_WITHIN_S:g} s")

    def _ask_to_drain(self) -> None:
        """Ask the ranks that were not asked before; from time to time, all of them."""
        self.state = "draining"
        now = self._equipment.monotonic()
        again = now >= self._ask_again_at
        if again:
            self._ask_again_at = now + ASK_AGAIN_AFTER_S
        self.workers.ask_to_drain(again=again)

    def _end_restoring(self) -> None:
        self._restoring.end()
        self._abandon_by = min(self._abandon_by, self._equipment.monotonic() + ABANDON_WITHIN_S)

    @property
    def _abandoned(self) -> bool:
        """Whether what was told to end has had its time."""
        return self._equipment.monotonic() > self._abandon_by

    def _after_restoring(self) -> None:
        restored = self._restoring
        if not (restored.done or self._abandoned):
            return
        if self._stop_asked or self._drain_asked:
            self._finish(TrainerExit(outcome="drained", code=DRAINED, message="ended before the workers started"))
        elif restored.superseded:
            self._finish(TrainerExit(outcome="drained", code=DRAINED, message=restored.superseded))
        elif restored.refusal:
            self._finish(TrainerExit(outcome="refused", code=BAD_INPUT, message=restored.refusal))
        elif restored.resume_step is None:  # a fault in restoring itself: its traceback is in the agent's log
            message = restored.fault or "images and checkpoint could not be fetched: see agent.log"
            self._finish(TrainerExit(outcome="failed", code=1, message=message))
        else:
            try:
                self._start()
            except OSError as error:  # no thread or no socket is left, say: the next generation tries again
                if self._committer:
                    self._committer.abandon()
                message = f"the workers could not be started: {error}"
                self._finish(TrainerExit(outcome="failed", code=1, message=message))

    def _start(self) -> None:
        place, equipment = self._place, self._equipment
        self.workers.start(self._run, self._assignment, own_address=place.address, gpus=place.gpus)
        lineage = Lineage(job=self._assignment.job, generation=self.number, epoch=lambda: self.epoch)
        if self._assignment.node_rank == 0:
            self._committer = Committer(
                self._store,
                lineage,
                self._run,
                self._assignment.checkpoints_kept,
                self._nonce,
                self._tell,
                equipment,
            )
        self._shipper = LogShipper(self._store, self._streams(), equipment.background, self._pace.ship_logs_s)
        self.state = "running"
        if self._assignment.program is not None:
            self._said = "the program runs and has written no line with a step into progress.jsonl yet"

    def _read_progress(self) -> bool:
        """Take in new progress lines; True when the first of this generation is among them."""
        first = False
        for line in self._run.new_lines():
            report = as_progress(line)
            if report is not None:
                first = first or self.progress is None
                self.progress = report
                self._said = ""
            elif (note := as_note(line)) is not None:
                self._tell("note", note)
            elif (activity := as_activity(line)) is None:
                self._tell_of_strange(line)
            elif self.progress is None:
                self._said = activity
        return first

    def _tell_of_strange(self, line: Mapping[str, Any]) -> None:
        """Once: a program that reports otherwise does so in every line."""
        if not self._strange_told:
            self._strange_told = True
            shown = printable(json.dumps(line)[:_SHOWN_OF_LINE])
            self._tell("note", f"a line of progress.jsonl has no step that is a whole number: {shown}")

    def _follow_committer(self) -> None:
        committer = self._committer
        if committer is None or self._stop_asked:
            return
        now, hindrance = self._equipment.monotonic(), committer.hindrance
        complaint = self._uncommitted.look(now, self._last_step, committer.committed_step, hindrance)
        if complaint is not None:
            self._tell("checkpoint_failed", complaint)
        if committer.crashed:
            # Training on without checkpoints would be for nothing: fail, so that the next generation tries again.
            message = "the agent's committer has ended by a fault of its own: see agent.log"
            self._finish(TrainerExit(outcome="failed", code=1, message=message, step=self._last_step))
        elif committer.fault:
            hopeless = committer.hopeless
            self._finish(
                TrainerExit(
                    outcome="refused" if hopeless else "failed",
                    code=HOPELESS if hopeless else 1,
                    message=committer.fault,
                    step=self._last_step,
                )
            )
        elif committer.superseded:
            self.stop("a newer generation has sealed the head")

    def _follow_shipper(self) -> None:
        """Training is worth more than its logs: that there will be no more of them is told, and that is all."""
        if self._shipper is not None and self._shipper.crashed and not self._shipper_missed:
            self._shipper_missed = True
            self._tell("note", "nothing more of what the workers print will be shipped: see agent.log")

    def _follow_workers(self, committed: bool) -> None:
        if self._ended is None:
            self._ended = self.workers.poll(self._last_step)
            if self._ended is not None:
                self._read_progress()
                self._after_workers_ended(self._ended)
            elif self._stop_asked and self._abandoned:
                self._ended = self._stopped()  # not even SIGKILL has ended them: nobody waits for ever
        if self._ended is not None and committed:
            self._finish(self._doubted(self._ended))

    def _after_workers_ended(self, ended: TrainerExit) -> None:
        self._ended = ended = ended.model_copy(update={"step": self._last_step})
        if self._stop_asked:
            self._ended = self._stopped()
        elif ended.outcome in ("failed", "refused", "lost") and self._drain_asked:
            message = f"ended while draining: {ended.message}"
            self._ended = ended.model_copy(update={"outcome": "drained", "message": message})
        elif ended.outcome == "finished" and self._drain_asked and not self._says_it_is_done:
            message = "ended with 0 when it was asked to drain, and has not said that it was done: 75 is for that"
            self._ended = ended.model_copy(update={"outcome": "drained", "message": message})
        self._commit_by = self._equipment.monotonic() + COMMIT_WITHIN_S
        if self._committer:
            self._committer.settle()

    @property
    def _says_it_is_done(self) -> bool:
        """Whether the trainer has made its last step, as far as it tells. Elastic's own ends with 0 only then."""
        if self._assignment.program is None:
            return True
        told = self.progress
        if told is not None and told.total_steps is not None and told.step >= told.total_steps:
            return True
        if self._committer is not None and self._committer.final_committed:
            return True
        try:
            return any(checkpoint.final for checkpoint in self._run.whole_checkpoints())
        except (UnfitCheckpoint, OSError):  # the committer says so
            return False

    def _doubted(self, ended: TrainerExit) -> TrainerExit:
        """An order that has trained before is not a bad one: what refuses it now may pass, as a network's absence does.

        Only the number of failures in a row ends it then. And who ends well and has left nothing, or not its result,
        has not done what it was run for.
        """
        if ended.outcome == "finished" and (why := self._result_is_missing):
            outcome = "drained" if self._drain_asked else "failed"
            return ended.model_copy(update={"outcome": outcome, "code": 1, "message": why})
        leaves_nothing = self._assignment.resume is None and self.committed_step is None
        if ended.outcome == "finished" and leaves_nothing and self._is_first_of_own_program:
            message = (
                "the program ended with 0 and has left no checkpoint, so there is no result: it has to write its last "
                "state to checkpoints/step-<12 digits> in its run directory"
            )
            return ended.model_copy(update={"outcome": "refused", "code": HOPELESS, "message": message})
        has_trained = not (self._assignment.resume is None and self.progress is None and self.committed_step is None)
        if ended.outcome == "refused" and ended.code == BAD_INPUT and has_trained:
            return ended.model_copy(update={"outcome": "failed"})
        return ended

    @property
    def _result_is_missing(self) -> str:
        """Why the head is not the last checkpoint.

        The next generation makes the steps from the head on again, and with them the result.
        """
        committer = self._committer
        if committer is None or committer.final_committed:
            return ""
        if committer.lost:
            return f"its last checkpoint was lost: {committer.lost}"
        if self._assignment.program is not None:
            return ""
        # Elastic's own writes it whenever it finishes, also anew.
        return "the trainer ended with 0, and no checkpoint with its result was committed"

    @property
    def _is_first_of_own_program(self) -> bool:
        return self._assignment.program is not None and self._assignment.node_rank == 0

    def _stopped(self) -> TrainerExit:
        return TrainerExit(outcome="drained", code=DRAINED, message=self._stop_asked, step=self._last_step)

    @property
    def _last_step(self) -> int | None:
        return self.progress.step if self.progress else None

    def _finish(self, ended: TrainerExit) -> None:
        """All is decided but not all is gone: ranks that outlived their launcher, the tail of the logs."""
        self.workers.kill()
        if self._shipper:
            self._shipper.finish()
        self._concluding = ended
        self._conclude_by = self._equipment.monotonic() + TAIL_WITHIN_S

    def _conclude(self, ended: TrainerExit) -> None:
        late = self._equipment.monotonic() > self._conclude_by
        if late and self._shipper:
            self._shipper.give_up()
        if late or (self.workers.gone() and (self._shipper is None or self._shipper.done)):
            self.state = "stopped"
            self.exit = ended.model_copy(update={"message": printable(ended.message)})

    # --- what is shipped ---------------------------------------------------------------------------------------------

    def _streams(self) -> list[Stream]:
        job, number, node = self._assignment.job, self.number, self._assignment.node_rank
        run, launcher = self._run, self.workers.log

        def rank_stream(local_rank: int) -> Stream:
            rank = node * self._assignment.workers + local_rank
            return Stream(
                files=lambda: run.rank_logs(local_rank),
                key=lambda chunk: layout.log_key(job, number, layout.rank_stream(rank), chunk),
            )

        def of_one(file: LogFile, key: Callable[[int], str]) -> Stream:
            return Stream(files=lambda: [file], key=key)

        streams = [rank_stream(local_rank) for local_rank in range(self._assignment.workers)]
        streams.append(of_one(launcher, lambda chunk: layout.log_key(job, number, layout.launcher_stream(node), chunk)))
        if node == 0:
            streams.append(of_one(run.progress_log, lambda chunk: layout.progress_key(job, number, chunk)))
        return streams
