"""The agent's loop: follow the assignment, watch the workers, tell the bucket.

A generation on this instance goes through restoring -> running -> (draining) -> stopped. Slow work (restoring,
committing, shipping logs) has threads of its own, so the heartbeat never waits for it.
"""

import math
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.agent.equipment import Equipment, Place, Workers
from orchestrator.agent.generation import GenerationRun
from orchestrator.agent.notices import Notices
from orchestrator.agent.run_directory import printable
from orchestrator.agent.sampling import UtilizationWindow
from orchestrator.agent.standstill import Standstill
from orchestrator.jobs import layout
from orchestrator.jobs.head import load_head
from orchestrator.jobs.instances import LEAVE_WITHIN_S, AgentState, Assignment, Heartbeat
from orchestrator.jobs.pace import Pace, pace_of
from orchestrator.jobs.record import JobRecord
from orchestrator.store import document
from orchestrator.store.document import Nonce
from orchestrator.store.protocol import UNCHANGED, Store, StoreError

STORE_LOST_AFTER_S = 480.0
"""Cut off from the bucket for so long, an agent checkpoints and ends: nobody can tell it that its job is over."""
LEAVE_LOST_WITHIN_S = 60.0
"""The time for that: a store that was away for so long will hardly be back for the last commit."""
LAST_MOMENTS_S = 45.0
"""What giving up takes: restoring or committing is left to itself, the tail of the log to be shipped or not."""
TELL_AGAIN_AFTER_S = 2.0
"""After a heartbeat that did not arrive."""
LAST_WORD_WITHIN_S = 5.0
LAST_WORD_AGAIN_AFTER_S = 1.0
HUNG_AFTER_S = 600.0
STOOD_STILL_S = 30.0
"""Not asked every second whether it hangs, but after so long, the whole process was stopped, or its machine was."""
HARD_END_AFTER_S = 5.0
"""From when the agent should have ended by itself until its process is ended."""
NOTICE_AHEAD_S = 120.0
"""An interruption is announced so long before, as a rule."""
WARM_WITHIN_S = 60.0
"""A launcher that is not warm by then is given work all the same: its end will tell what is wrong with it."""


class Supervisor:
    """One agent: `turn` does what is due, and says when the next one is; nothing in it waits."""

    def __init__(
        self,
        store: Store,
        place: Place,
        equipment: Equipment,
        nonce: Nonce,
        log: Callable[[str], None],
        pace: Pace | None = None,
        prompt_store: Store | None = None,
    ) -> None:
        """`prompt_store` is the same store, which answers or fails within seconds: turns ask it alone, and come again.

        Work in the background has `store`, which may try as long as it likes.
        """
        self._store = store
        self._prompt_store = prompt_store or store
        self._place = place
        self._equipment = equipment
        self._nonce = nonce
        self._log = log
        self._pace = pace or pace_of(store.billed)
        self._monotonic = equipment.monotonic
        self._leave_by = math.inf
        self._end_by: float | None = None
        self._turned_at = self._asked_at = self._patient_from = equipment.monotonic()
        self._why_leaving = ""
        self._assignment: Assignment | None = None
        self._assignment_etag: str | None = None
        self._run: GenerationRun | None = None
        self._notices = Notices(log)
        self._at_risk = False
        self._ends_at: datetime | None = None
        self._is_another = False
        self._others_committed: int | None = None
        self._count = 0
        self._complaint = ""
        self._port = equipment.free_port()
        self._wants_port = False
        self._warm: Workers | None = equipment.launcher()
        self._wants_warm = False
        self._window = UtilizationWindow(equipment.sampler(self._worker_pids), self._monotonic)
        now = self._monotonic()
        self._warm_by = now + WARM_WITHIN_S
        self._last_contact = self._busy_until = now
        self._due = {"assignment": now, "heartbeat": now, "job": now + self._pace.job_check_s}
        self._told: tuple[object, ...] = ()
        self._tell_again_at = now
        self._standstill = Standstill(now)
        log(f"instance {place.instance} is ready: {place.workers} workers on {place.cores} cores")

    def leave(self, why: str, within_s: float = LEAVE_WITHIN_S) -> None:
        """Drain, commit, end. What is not committed by then is given up. Safe to call from a signal handler."""
        if not self._leaving:
            self._leave_by = self._monotonic() + within_s
            self._why_leaving = why

    def taken_away(self, action: str, at: datetime, seconds: float) -> None:
        """The provider has announced that the instance ends then, in so many seconds. Safe to call from any thread."""
        self._ends_at = at
        why = f"the instance is taken away ({action}) at {at:%H:%M:%S} UTC"
        self.leave(why, seconds if 0 < seconds < NOTICE_AHEAD_S else NOTICE_AHEAD_S)  # first: saying so may fail
        self._notices.say("preemption_notice", f"{why}: its workers checkpoint and end")

    def risks_end(self) -> None:
        """The provider advises to move off the instance; it trains on. Safe to call from any thread."""
        self._at_risk = True
        self._notices.say("note", "the instance may be taken away before long (rebalance recommendation)")

    def note(self, message: str) -> None:
        """Have the controller tell something. Safe to call from any thread."""
        self._notices.say("note", message)

    def run(self, after_turn: Callable[[], None]) -> None:
        """Supervise until there is a reason to leave and the workers have ended."""
        while (pause_s := self.turn()) is not None:
            after_turn()
            time.sleep(pause_s)

    def turn(self) -> float | None:
        """Do what is due now; returns after how many seconds to be called again, or None: the agent has ended."""
        self._turned_at = self._monotonic()
        if self._left_s <= 0:
            self._end_hard()
            return None
        self._follow_assignment()
        self._follow_workers()
        self._consider_leaving()
        if self._leaving and self._idle:
            return self._end()
        self._tell()
        return self._pause_s()

    def overdue(self) -> str | None:
        """Why this process must end at once though its turns do not end it; another thread asks, every second.

        The time in which nobody could ask is none in which a turn has hung.
        """
        now = self._monotonic()
        if now - self._asked_at > STOOD_STILL_S:
            self._patient_from = now
        self._asked_at = now
        hung_s = now - max(self._turned_at, self._patient_from)
        if self._left_s < -HARD_END_AFTER_S:
            return f"the allowance of {self.allowance_s:g} s is used, and a turn takes {hung_s:.0f} s"
        if hung_s > HUNG_AFTER_S:
            return f"a turn has taken {hung_s:.0f} s"
        return None

    def _end(self) -> float | None:
        """Say so, for a few seconds if the store does not hear it."""
        if self._end_by is None:
            self._end_by = self._monotonic() + LAST_WORD_WITHIN_S
            self._log(f"leaving: {self._why_leaving}")
            if self._warm is not None:
                self._warm.kill()
        if self._send_heartbeat("leaving") or self._monotonic() >= self._end_by:
            return None
        return LAST_WORD_AGAIN_AFTER_S

    def _end_hard(self) -> None:
        """Whatever still hangs: what is not paid for must not go on."""
        self._log(f"ending at once: the allowance of {self.allowance_s:g} s is used")
        for workers in (self._warm, self._run.workers if self._run is not None else None):
            if workers is not None:
                workers.kill()

    def _pause_s(self) -> float:
        """Until something is due; workers, and a launcher that gets warm, are looked at more often."""
        now = self._monotonic()
        due = min(at for what, at in self._due.items() if not (self._leaving and what == "job"))
        if self._run is not None and self._run.trains:
            due = min(due, now + self._equipment.glance_every_s)
        elif not self._idle or self._warming:
            due = min(due, now + self._equipment.look_every_s)
        return max(0.0, min(due - now, self._left_s))

    @property
    def _leaving(self) -> bool:
        return self._why_leaving != ""

    @property
    def _idle(self) -> bool:
        return self._run is None or self._run.exit is not None

    # --- what the controller wants -----------------------------------------------------------------------------------

    def _follow_assignment(self) -> None:
        if self._is_due("assignment", self._pace.assignment_s):
            self._read_assignment()
        wanted, current = self._assignment, self._run
        if wanted is None:
            return
        if current is not None and current.number == wanted.generation:
            current.epoch = wanted.epoch  # also while leaving: the last commit may need it
            if wanted.action == "drain":
                current.drain("the controller asked")
            elif wanted.action == "stop":
                current.stop("the controller asked", dump_stacks=wanted.dump_stacks)
        elif self._leaving:
            return
        elif current is not None and current.exit is None:
            current.stop(f"generation {wanted.generation} takes over")
        elif wanted.action != "stop":
            self._begin(wanted)

    def _read_assignment(self) -> None:
        try:
            found = self._prompt_store.get_if_changed(
                layout.assignment_key(self._place.instance), self._assignment_etag
            )
            self._last_contact = self._monotonic()
            if found is UNCHANGED or found is None:
                return
            stored = document.parse(self._prompt_store, found, Assignment)
        except StoreError as error:
            self._complain(f"the assignment cannot be read: {error}")
            return
        self._assignment_etag, wanted = stored.etag, stored.value.instance_id
        if wanted and self._place.instance_id and wanted != self._place.instance_id:
            # Its heartbeat is the other's to write: this one has nothing to say under that name any more.
            self._is_another = True
            self.leave(f"{self._place.instance} is {wanted}, and this is {self._place.instance_id}", 0.0)
            return
        self._assignment = stored.value

    def _begin(self, assignment: Assignment) -> None:
        """Begin a generation; one that cannot be begun now is at a later turn."""
        try:
            if self._warm is None:
                self._warm = self._equipment.launcher()
            self._run = GenerationRun(
                store=self._store,
                assignment=assignment,
                workers=self._warm,
                place=self._place,
                equipment=self._equipment,
                pace=self._pace,
                nonce=self._nonce,
                tell=self._notices.say,
                log=self._log,
            )
        except OSError as error:
            self._complain(f"generation {assignment.generation} cannot be begun yet, trying again: {error}")
            return
        self._warm, self._wants_warm = None, False
        self._log(
            f"generation {assignment.generation}: {assignment.workers} workers, from {assignment.resume or 'the start'}"
        )
        if assignment.action == "drain":
            self._run.drain("the controller asked before it began")  # it waits to hear how this generation has ended

    # --- what the workers do -----------------------------------------------------------------------------------------

    def _follow_workers(self) -> None:
        current = self._run
        if current is None or current.exit is not None:
            if self._warming:  # an image that takes long to come is no idleness
                self._busy_until = self._monotonic()
            self._get_ready()
            return
        self._busy_until = self._monotonic()
        if current.advance():
            self._window.restart()
        if current.measured:
            self._window.tick()
        if current.exit is not None:
            self._log(f"generation {current.number}: {current.exit.outcome}: {current.exit.message}")
            # After any other end there is hardly more to do on this instance, and others need its cores now.
            self._wants_warm = current.exit.outcome in ("failed", "refused", "lost")
            self._wants_port = True
            self._get_ready()

    def _get_ready(self) -> None:
        """Have what the next generation needs. What cannot be had now, for want of processes say, is tried again."""
        if self._leaving:
            return
        try:
            if self._wants_warm:
                self._warm, self._wants_warm = self._equipment.launcher(), False
            if self._wants_port:
                self._port, self._wants_port = self._equipment.free_port(), False
        except OSError as error:
            self._complain(f"the next generation cannot be prepared yet, trying again: {error}")

    def _worker_pids(self) -> Sequence[int]:
        return self._run.workers.pids if self._run is not None else ()

    # --- whether to stay ---------------------------------------------------------------------------------------------

    def _consider_leaving(self) -> None:
        now = self._monotonic()
        if self._left_s <= LEAVE_WITHIN_S:
            within_s = min(LEAVE_WITHIN_S, max(0.0, self._left_s - LAST_MOMENTS_S))
            self.leave(f"the allowance of {self.allowance_s:g} s is used", within_s)
            self._leave_by = min(self._leave_by, now + within_s)
        if self._leaving:
            self._drain_to_leave(now)
        elif self._idle and now - self._busy_until > self._place.idle_exit_s:
            self.leave(f"nothing to do for {self._place.idle_exit_s:g} s")
        elif (why := self._stands_still(now)) is not None:
            self.leave(why, LEAVE_LOST_WITHIN_S)
        elif now - self._last_contact > STORE_LOST_AFTER_S:
            self.leave(f"the store has not answered for {STORE_LOST_AFTER_S:g} s", LEAVE_LOST_WITHIN_S)
        elif self._is_due("job", self._pace.job_check_s):
            self._look_at_job()

    def _drain_to_leave(self, now: float) -> None:
        if self._run is None:
            return
        self._run.drain(self._why_leaving)
        if now >= self._leave_by:
            self._run.stop("what was left could not be committed in time")

    @property
    def allowance_s(self) -> float | None:
        """How long this instance may live: as whoever launched it has said, until an assignment says otherwise."""
        return self._place.allowance_s if self._assignment is None else self._assignment.allowance_s

    @property
    def _left_s(self) -> float:
        """For how long it may go on."""
        allowance_s = self.allowance_s
        return math.inf if allowance_s is None else allowance_s - self._equipment.age_s()

    def _stands_still(self, now: float) -> str | None:
        """Why workers that hang must not go on, if they do: whoever should have ended them may be gone for ever."""
        run, order = self._run, self._assignment
        if run is None or order is None:
            return None
        step, patience_s = run.progress.step if run.progress else None, order.stall_after_s
        if run.reports_nothing:
            step, patience_s = self._others_committed, max(patience_s, order.checkpoint_every_s)
        stand = (run.number, run.state, run.activity, step)
        return self._standstill.look(now, stand, patience_s) if run.exit is None else None

    def _look_at_job(self) -> None:
        """Leave when it is over. And where the trainer says nothing, learn how far it is from what was committed."""
        try:
            stored = document.load(self._prompt_store, layout.record_key(self._place.job), JobRecord)
            if self._run is not None and self._run.reports_nothing:
                head = load_head(self._prompt_store, self._place.job)
                self._others_committed = head.value.step if head is not None else None
        except StoreError:
            return
        if stored is None or stored.value.phase.over:
            if self._run is not None:
                self._run.stop("the job is over")
            self.leave("the job is over")

    # --- what is told ------------------------------------------------------------------------------------------------

    def _tell(self) -> None:
        """A heartbeat from time to time, and at once when something happened that the controller waits for."""
        news = (
            self._state(),
            self._run.number if self._run else 0,
            self._run.committed_step if self._run else None,
            self._notices.numbered()[-1:],
        )
        is_due = self._is_due("heartbeat", self._pace.heartbeat_s)
        if not is_due and (news == self._told or self._monotonic() < self._tell_again_at):
            return
        if self._send_heartbeat(self._state()):
            self._told = news
        else:  # what is news stays so until it has arrived
            self._tell_again_at = self._monotonic() + TELL_AGAIN_AFTER_S
            self._due["heartbeat"] = min(self._due["heartbeat"], self._tell_again_at)

    def _state(self) -> AgentState:
        if self._leaving and self._idle:
            return "leaving"  # not 'stopped': the controller would give it new work
        if self._run is not None:
            return self._run.state
        return "booting" if self._warming else "ready"

    @property
    def _warming(self) -> bool:
        if self._warm is None or self._warm.warm:
            return False
        return self._monotonic() < self._warm_by or self._warm.activity != ""

    @property
    def _activity(self) -> str:
        if self._run is not None and self._run.state in ("restoring", "running"):
            return self._run.activity
        return self._warm.activity if self._warm is not None else ""

    def _send_heartbeat(self, state: AgentState) -> bool:
        """Write it; whether it has arrived."""
        if self._is_another:
            return True
        self._count += 1
        current = self._run
        beat = Heartbeat(
            instance=self._place.instance,
            count=self._count,
            at=self._equipment.now(),
            state=state,
            uptime_s=self._equipment.age_s(),
            instance_id=self._place.instance_id,
            address=self._place.address,
            port=self._port,
            at_risk=self._at_risk,
            ends_at=self._ends_at,
            job=self._place.job,
            epoch=current.epoch if current else 0,
            generation=current.number if current else 0,
            progress=current.progress if current else None,
            committed_step=current.committed_step if current else None,
            utilization=self._window.value() if current and current.measured else None,
            exit=current.exit if current else None,
            activity=printable(self._activity),
            image=workers.image if (workers := current.workers if current else self._warm) is not None else "",
            complaint=printable(current.complaint) if current else "",
            uncommitted_s=round(current.uncommitted_s, 1) if current else 0.0,
            notices=self._notices.numbered(),
        )
        try:
            self._prompt_store.put(layout.heartbeat_key(self._place.instance), beat.model_dump_json().encode())
            self._last_contact = self._monotonic()
            self._complaint = ""
        except StoreError as error:
            self._complain(f"the heartbeat cannot be written: {error}")
            return False
        return True

    def _complain(self, message: str) -> None:
        """Log what goes wrong again and again once."""
        if message != self._complaint:
            self._complaint = message
            self._log(message)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = self._monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_s
        return True
