"""What the page of a job shows."""

import json
from datetime import datetime, timedelta

import pytest

from orchestrator.controller.decide import Decision
from orchestrator.controller.decisions import keep_decision
from orchestrator.controller.observation import InstanceView, Observation
from orchestrator.dashboard.charts import MOST_POINTS, thinned
from orchestrator.dashboard.job_page import HIDDEN, MOST_EVENTS
from orchestrator.dashboard.log_tail import LINES, printable
from orchestrator.dashboard.pages import Pages
from orchestrator.dashboard.progress import MOST_CHUNKS
from orchestrator.jobs import layout
from orchestrator.jobs.bucket import load_record, submit_job
from orchestrator.jobs.events import Event, EventKind, write_event
from orchestrator.jobs.instances import Heartbeat, Utilization
from orchestrator.jobs.phases import JobPhase
from orchestrator.spec.load import load_job
from tests.cli.stored_jobs import (
    JOB_YAML,
    NOW,
    STARTED,
    beat,
    change,
    finish,
    log,
    nonce,
    put_checkpoint,
    put_training,
    spec_named,
    tell,
)
from tests.dashboard.conftest import Clock, CountedStore, job_of


def report(store: CountedStore, chunk: int, *steps: int, generation: int = 1, **values: float) -> None:
    """Progress lines, as an agent ships them: step n was made n seconds after the start."""
    lines = (
        json.dumps({"step": step, "time": (STARTED + timedelta(seconds=step)).isoformat(), **values}) for step in steps
    )
    store.create(layout.progress_key("digits", generation, chunk), "".join(f"{line}\n" for line in lines).encode())


def test_all_that_show_and_events_and_logs_tell_is_on_it(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)
    put_checkpoint(bucket, "digits", {"student.pt": b"1"})
    log(bucket, "digits", 1, 0, b"step 1\nstep 2\n")

    page = job_of(pages)

    facts = {fact.name: fact.value for fact in page.facts}
    assert page.job.words == "running · training"
    assert facts["checkpoint"] == "step 400"
    assert "grows above 80 %, shrinks below 30 %" in facts["utilisation"]
    assert facts["labels"] == "team=vision"
    assert [event.kind for event in page.events] == ["training", "starting", "submitted"]
    assert page.why[0].name == "why it does not grow or shrink"
    assert page.log.lines == ["step 1", "step 2"]
    assert "name: digits" in page.yaml
    commands = [command.command for command in page.commands]
    assert commands[:2] == ["elastic follow digits", "elastic cancel digits"]
    assert "elastic logs digits -f" in commands


def test_curves_are_over_time_and_steps_that_were_done_again_are_in_it(
    bucket: CountedStore, pages: Pages, clock: Clock
) -> None:
    put_training(bucket)
    report(bucket, 0, 1, 2, loss=2.0, student_accuracy=0.5)
    assert {chart.title: len(chart.curves) for chart in job_of(pages).charts.charts}["Loss"] == 1

    report(bucket, 1, 3, loss=1.0, student_accuracy=0.6, teacher_accuracy=0.7)
    clock.passes(3)
    accuracy, loss, *_ = job_of(pages).charts.charts

    assert loss.curves[0].points == [(1.0, 2.0), (2.0, 2.0), (3.0, 1.0)]
    assert [curve.name for curve in accuracy.curves] == ["student", "teacher"]
    assert accuracy.curves[1].points == [(3.0, 70.0)]


@pytest.mark.parametrize(
    "line",
    [b"not json\n", b"[]\n", b'{"step": "x"}\n', b'{"step": 1}\n', b'{"step":1,"time":"x","loss":1}\n', b"\xff\n"],
)
def test_a_line_that_is_no_report_is_passed_over(bucket: CountedStore, pages: Pages, line: bytes) -> None:
    put_training(bucket)
    bucket.create(layout.progress_key("digits", 1, 0), line)
    report(bucket, 1, 3, loss=1.0)

    assert job_of(pages).charts.charts[1].curves[0].points == [(3.0, 1.0)]


def test_of_a_long_story_so_many_pieces_are_read_and_the_newest_is_among_them(
    bucket: CountedStore, pages: Pages
) -> None:
    put_training(bucket)
    many = 3 * MOST_CHUNKS
    for chunk in range(many):
        report(bucket, chunk, chunk + 1, loss=1.0)
    before = bucket.asked["GET"]

    points = job_of(pages).charts.charts[1].curves[0].points

    assert bucket.asked["GET"] - before < MOST_CHUNKS + 50
    assert points[-1][0] == float(many)
    assert len(points) <= MOST_POINTS + 1


def test_thinning_keeps_means_and_the_last_value() -> None:
    points = [(float(n), float(n)) for n in range(10 * MOST_POINTS)]

    thin = thinned(points)

    assert len(thin) <= MOST_POINTS + 1
    assert thin[0] == (4.5, 4.5)
    assert thin[-1] == points[-1]
    assert thinned(points[:3]) == points[:3]


def test_the_size_over_time_is_told_by_events_and_resizes_are_marked(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)  # starts generation 1 on rung 0 of {1, 2, 4} workers, by its event
    tell(bucket, "digits", EventKind.SCALE_UP, "busy", at=STARTED + timedelta(seconds=20))
    tell(bucket, "digits", EventKind.GENERATION_ENDED, "drained", at=STARTED + timedelta(seconds=30))
    tell(bucket, "digits", EventKind.STARTING, "again", at=STARTED + timedelta(seconds=31), generation=2)
    tell(bucket, "digits", EventKind.INSTANCE_LOST, "of the one before", at=STARTED + timedelta(seconds=40))

    charts = job_of(pages).charts

    assert charts.size.curves[0].points == [(0.0, 1.0), (30.0, 0.0), (31.0, 1.0), (60.0, 1.0)]
    assert [(mark.at_s, mark.words) for mark in charts.marks] == [(20.0, "scale up"), (40.0, "instance lost")]


def heard(at: datetime, *percents: float, instance: str = "digits-g1-n0-a0") -> Heartbeat:
    return Heartbeat(
        instance=instance,
        count=1,
        at=at,
        state="running",
        generation=1,
        utilization=Utilization(source="cpu", percents=percents, count=len(percents)),
    )


def test_how_busy_it_was_is_told_by_what_decisions_saw_and_by_heartbeats(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket, percents=(50.0, 60.0))  # heard 60 s after the start
    record = load_record(bucket, "digits").value
    number = record.seq + 1
    event = Event(
        number=record.last_event + 1,
        at=STARTED + timedelta(seconds=20),
        epoch=1,
        generation=1,
        kind=EventKind.SCALE_UP,
        message="busy",
        decision=number,
    )
    view = InstanceView(heartbeat=heard(STARTED + timedelta(seconds=20), 90.0, 92.0))
    seen = Observation(1, spec_named("digits"), record, None, (), {"digits-g1-n0-a0": view}, {})
    keep_decision(bucket, seen, Decision(record.model_copy(update={"outbox": (event,)}), ()))
    write_event(bucket, "digits", event)
    change(bucket, "digits", last_event=event.number)

    busy = job_of(pages).charts.charts[2]

    assert busy.band == (30.0, 80.0)
    assert busy.curves[0].points == [(19.0, 90.0), (20.0, 92.0), (59.0, 50.0), (60.0, 60.0)]


def test_what_a_decision_saw_may_be_unreadable(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket, percents=(50.0,))
    event = Event(number=4, at=NOW, epoch=1, generation=1, kind=EventKind.NOTE, message="x", decision=9)
    bucket.create(layout.decision_key("digits", 9, 1), b"{}")
    for told in load_record(bucket, "digits").value.outbox:
        write_event(bucket, "digits", told)
    change(bucket, "digits", last_event=4, outbox=(event,))

    assert [len(curve.points) for curve in job_of(pages).charts.charts[2].curves] == [1]


def test_of_many_events_the_last_are_shown(bucket: CountedStore, pages: Pages) -> None:
    put_training(bucket)
    last = MOST_EVENTS + 40
    for number in range(4, last + 1):
        note = Event(number=number, at=NOW, epoch=1, generation=1, kind=EventKind.NOTE, message=f"note {number}")
        write_event(bucket, "digits", note)
    change(bucket, "digits", last_event=last, outbox=())

    page = job_of(pages)

    assert (len(page.events), page.events[0].message, page.earlier_events) == (MOST_EVENTS, f"note {last}", 40)


def test_the_log_is_the_end_of_the_latest_generation(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_training(bucket)
    log(bucket, "digits", 1, 0, b"".join(b"line %d\n" % n for n in range(100)))
    first = job_of(pages).log
    assert (first.generation, len(first.lines), first.lines[-1]) == (1, LINES, "line 99")

    log(bucket, "digits", 1, 1, b"half a ")
    clock.passes(3)
    assert job_of(pages).log.lines[-1] == "half a "
    log(bucket, "digits", 1, 2, b"line\nwhole\n")
    clock.passes(3)
    assert job_of(pages).log.lines[-2:] == ["half a line", "whole"]
    log(bucket, "digits", 2, 0, b"anew\n")
    clock.passes(3)
    assert job_of(pages).log.model_dump() == {"generation": 2, "lines": ["anew"]}


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        (" 10%\r 20%\r", " 20%"),
        ("bell\x07 tab\t<b>", "bell tab\t<b>"),
        ("x" * 900, "x" * 499 + "…"),
    ],
)
def test_a_line_is_shown_as_a_terminal_would_leave_it(line: str, shown: str) -> None:
    assert printable(line) == shown


def test_values_of_the_environment_are_not_on_the_page(bucket: CountedStore, pages: Pages) -> None:
    spec = load_job(JOB_YAML, ["resources.env.MODE=hunter2"])
    submit_job(bucket, spec, STARTED, nonce)

    page = job_of(pages)

    assert f"MODE: {HIDDEN}" in page.yaml
    assert "hunter2" not in page.model_dump_json()


def test_the_end_of_a_job_and_what_to_type_then(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_training(bucket)
    job_of(pages)
    report(bucket, 0, 700, loss=0.1)
    finish(bucket, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    clock.passes(3)

    page = job_of(pages)

    assert (page.job.over, page.job.busy.percent) == (True, None)
    assert page.charts.charts[1].curves[0].points[-1] == (700.0, 0.1)
    assert page.commands[0].command == "elastic fetch digits"


def test_another_job_of_the_same_name_begins_a_new_page(bucket: CountedStore, pages: Pages, clock: Clock) -> None:
    put_training(bucket)
    log(bucket, "digits", 1, 0, b"of the first\n")
    assert job_of(pages).log.lines == ["of the first"]
    beat(bucket, "digits", number=2)
    for entry in list(bucket.list(layout.job_prefix("digits"))):
        bucket.delete(entry.key)
    submit_job(bucket, spec_named("digits", "scaling.up_above=70"), NOW, nonce)
    clock.passes(3)

    page = job_of(pages)

    assert (page.job.phase, page.log.lines, page.charts.charts[2].curves) == ("pending", [], [])
    assert page.job.busy.up_above == 70.0
