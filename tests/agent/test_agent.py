"""A real agent with real workers, told what to do by a test in the controller's place."""

import re
import signal
import time

import psutil

from orchestrator.agent.watchdog import HUNG
from orchestrator.fleets.local import PROCESS_FILE
from orchestrator.fleets.processes import read_identity
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_heartbeat, load_record
from orchestrator.jobs.head import seal
from orchestrator.jobs.phases import JobPhase
from orchestrator.store import document
from orchestrator.store.document import random_nonce
from tests.agent.agent_process import INSTANCE, JOB
from tests.agent.real_agent import ENDS, SLOWLY, Instance
from tests.agent.test_launcher import FOR_EVER
from tests.support.waiting import wait_until


def test_from_ready_to_finished(instance: Instance) -> None:
    instance.start()
    beat = instance.wait(lambda beat: beat.state == "ready", "it is ready")
    assert (beat.instance, beat.job, beat.generation) == (INSTANCE, JOB, 0)
    identity = read_identity(instance.work_dir / PROCESS_FILE)
    assert instance.process is not None
    assert identity is not None
    assert identity.pid == instance.process.pid

    instance.order("run", {**ENDS, "steps": 120, "waits_at": 60})
    beat = instance.wait(lambda beat: beat.utilization and beat.utilization.count >= 1, "it measures")
    assert (beat.state, beat.generation, beat.epoch) == ("running", 1, 1)
    assert beat.progress is not None
    assert beat.progress.total_steps == 120
    assert beat.utilization is not None
    assert beat.utilization.source == "cpu"

    instance.go()
    beat = instance.wait(lambda beat: beat.exit, "it has ended")
    assert beat.exit is not None
    assert (beat.state, beat.exit.outcome, beat.exit.step) == ("stopped", "finished", 120)
    assert (instance.head.step, instance.head.final) == (120, True)
    assert instance.stream(layout.logs_prefix(JOB, 1, layout.rank_stream(0))) == "rank 0 from step 0\n"
    assert instance.stream(layout.progress_prefix(JOB)).count("\n") == 120


def test_workers_that_fail_are_told_and_the_instance_takes_the_next_generation(instance: Instance) -> None:
    instance.start()
    instance.order("run", {**SLOWLY, "fail_at": 13})
    beat = instance.wait(lambda beat: beat.exit, "it has failed")
    assert beat.exit is not None
    assert (beat.exit.outcome, beat.exit.message) == ("failed", "rank 0 exited with 3: out of luck")
    assert instance.head.step == 10
    instance.order("run", ENDS, generation=2)
    beat = instance.wait(lambda beat: beat.generation == 2 and beat.exit, "the next one has ended")
    assert beat.exit is not None
    assert beat.exit.outcome == "finished"
    assert instance.stream(layout.logs_prefix(JOB, 2, layout.rank_stream(0))) == "rank 0 from step 10\n"


def test_what_a_trainer_does_before_its_first_step_is_told_until_then(instance: Instance) -> None:
    instance.start()
    instance.order("run", {**FOR_EVER, "loads": True})
    beat = instance.wait(lambda beat: beat.activity, "it says what it does")
    assert (beat.state, beat.activity, beat.progress, beat.notices) == ("running", "looking at images", None, ())
    instance.go()
    beat = instance.wait(lambda beat: beat.progress, "it trains")
    assert beat.activity == ""


def test_a_drain_commits_the_last_step_and_the_agent_stays(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    instance.order("drain")
    beat = instance.wait(lambda beat: beat.exit, "it has drained")
    assert beat.exit is not None
    assert (beat.state, beat.exit.outcome, beat.exit.code) == ("stopped", "drained", 75)
    assert instance.head.step == beat.exit.step
    assert instance.process is not None
    assert instance.process.poll() is None


def test_a_drain_of_what_never_began_is_answered_too(instance: Instance) -> None:
    """Run and drain can be written so quickly one after the other that the agent sees the second alone."""
    instance.order("drain")
    instance.start()
    beat = instance.wait(lambda beat: beat.exit, "it has answered")
    assert beat.exit is not None
    assert (beat.generation, beat.state, beat.exit.outcome) == (1, "stopped", "drained")
    instance.order("run", ENDS, generation=2)
    beat = instance.wait(lambda beat: beat.generation == 2 and beat.exit, "the next one has ended")
    assert beat.exit is not None
    assert beat.exit.outcome == "finished"


def test_a_drain_while_the_ranks_are_being_started_is_heard(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait(lambda beat: beat.state == "running", "its launcher was told")
    instance.order("drain")
    beat = instance.wait(lambda beat: beat.exit, "it has drained")
    assert beat.exit is not None
    assert beat.exit.outcome == "drained"


def test_a_stop_ends_the_workers_at_once(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    instance.order("stop")
    beat = instance.wait(lambda beat: beat.exit, "it has stopped")
    assert beat.exit is not None
    assert (beat.exit.outcome, beat.exit.message) == ("drained", "the controller asked")


def test_workers_that_stand_still_say_where_before_they_are_ended(instance: Instance) -> None:
    """The stacks of all their threads are in the log by the time that the agent says how they have ended."""
    instance.start()
    instance.order("run", {**SLOWLY, "stuck_at": 7})
    instance.wait(lambda beat: beat.progress and beat.progress.step == 7, "it is stuck")
    instance.wait_for_commit(5)
    instance.order("stop", dump_stacks=True)
    beat = instance.wait(lambda beat: beat.exit, "it has stopped")
    assert beat.exit is not None
    assert (beat.exit.outcome, beat.exit.message) == ("drained", "the controller asked")
    assert "the workers stand still" in beat.notices[-1].message
    log = instance.stream(layout.logs_prefix(JOB, 1, layout.rank_stream(0)))
    assert re.search(r"most recent call first\):\n.* in stand_still\n.* in goes_wrong\n.* in main\n", log), log
    assert [each for each in instance.processes() if "fake_trainer" in " ".join(each.cmdline())] == []


def test_sigterm_drains_commits_and_leaves(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    assert instance.process is not None
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait_for_end() == 0
    beat = instance.wait(lambda beat: beat.state == "leaving", "its last word")
    assert beat.exit is not None
    assert beat.exit.outcome == "drained"
    assert instance.head.step == beat.exit.step
    assert instance.processes() == []


def test_one_that_leaves_is_never_called_stopped(instance: Instance) -> None:
    """'stopped' means that it waits for work: the controller would give it the next generation."""
    states: list[str] = []
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    assert instance.process is not None
    instance.process.send_signal(signal.SIGTERM)
    ended = False
    while not ended:  # once more after its end
        ended = instance.process.poll() is not None
        beat = load_heartbeat(instance.store, INSTANCE)
        states.append(beat.state if beat else "")
        time.sleep(0.005)
    assert "stopped" not in states
    assert states[-1] == "leaving"


def test_a_new_leader_is_heard_of_also_while_leaving(instance: Instance) -> None:
    """The head is sealed by the next leader while the agent is told to end: its last commit needs the new epoch."""
    instance.start()
    instance.order("run")
    committed = instance.wait_for_commit()
    seal(instance.store, JOB, 2, 1, random_nonce)
    assert instance.process is not None
    instance.process.send_signal(signal.SIGTERM)
    instance.wait(lambda beat: beat.state == "draining", "it drains")
    assert instance.process.poll() is None
    instance.order("run", epoch=2)
    assert instance.wait_for_end() == 0
    assert instance.head.step > committed
    assert instance.head.epoch == 2


def test_a_generation_that_was_superseded_stops_and_commits_nothing_more(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    sealed = seal(instance.store, JOB, 2, 2, random_nonce).value
    beat = instance.wait(lambda beat: beat.exit, "it has stopped")
    assert beat.exit is not None
    assert (beat.exit.outcome, beat.exit.message) == ("drained", "a newer generation has sealed the head")
    assert instance.head == sealed


def test_without_work_it_ends_itself(instance: Instance) -> None:
    instance.start(idle_exit_s=1.0)
    assert instance.wait_for_end() == 0
    assert instance.processes() == []
    assert "nothing to do for 1 s" in instance.log()


def test_one_that_hangs_in_the_middle_of_a_turn_is_ended_when_its_allowance_is_used(instance: Instance) -> None:
    command = ["-m", "tests.agent.agent_process", str(instance.work_dir.parent / "store"), str(instance.work_dir)]
    instance.start(command=[*command, "60", "2"])
    assert instance.wait_for_end() == HUNG
    assert "ending at once: the allowance of 2 s is used, and a turn takes" in instance.log()
    wait_until(lambda: instance.processes() == [], "nothing is left", 10)


def test_when_its_job_is_over_it_ends_itself_and_its_workers(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    record = load_record(instance.store, JOB)
    over = record.value.model_copy(update={"phase": JobPhase.CANCELLED})
    document.swap(instance.store, layout.record_key(JOB), record, over, random_nonce)
    assert instance.wait_for_end() == 0
    assert instance.processes() == []
    assert "the job is over" in instance.log()


def test_a_rank_that_is_killed_is_a_failure(instance: Instance) -> None:
    instance.start()
    instance.order("run")
    instance.wait_for_commit()
    (rank,) = [process for process in instance.processes() if "fake_trainer.py" in " ".join(process.cmdline())]
    rank.kill()
    beat = instance.wait(lambda beat: beat.exit, "it has failed")
    assert beat.exit is not None
    assert beat.exit.outcome == "failed"
    assert beat.exit.message.startswith("rank 0 was killed by SIGKILL")


TINY = {"steps": 100_000, "batch": 16, "labelled_batch": 8, "shards": 4, "precision": "fp32"}


def test_an_agent_that_is_killed_takes_launcher_and_ranks_with_it(instance: Instance) -> None:
    """The command that fleets start, with the real trainer: the kernel ends each with its parent."""
    command = ["-m", "orchestrator.cli.main", "--store", instance.store.url, "agent", "--instance", INSTANCE]
    command += ["--job", JOB, "--workers", "2", "--cores", "2", "--gpus", "", "--work-dir", str(instance.work_dir)]
    instance.start(command=[*command, "--idle-exit", "60s"])
    instance.order("run", TINY)
    instance.wait(lambda beat: beat.progress, "it trains")
    assert instance.process is not None
    family = psutil.Process(instance.process.pid).children(recursive=True)
    assert len(family) >= 2, "a launcher and a rank"
    instance.process.kill()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
