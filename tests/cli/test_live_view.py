"""The picture of a running job, at the widths that terminals have."""

import io
import re

import pytest
from rich.console import Console

from orchestrator.cli.bars import progress_bar, sparkline, utilization_bar, utilization_scale
from orchestrator.cli.live_view import LiveView, event_line, picture
from orchestrator.cli.plain_view import STATUS_EVERY_S, PlainView, status_line
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.reading.following import JobWatch, Look
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import Store
from tests.cli.stored_jobs import NOW, beat, change, finish, put_checkpoint, put_pending, put_training, tell
from tests.cli.terminal import screen_of

WIDTHS = [60, 80, 100, 120, 200]


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


def look_at(store: Store) -> Look:
    return JobWatch(store, "digits", lambda: NOW, lambda: 0.0).look()


def drawn(look: Look, width: int, *, controller_missing: bool = False, colours: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colours, color_system="truecolor" if colours else None
    )
    console.print(picture(look, width, controller_missing))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fills_the_width_and_never_more(bucket: MemoryStore, width: int) -> None:
    put_training(bucket)
    lines = drawn(look_at(bucket), width).splitlines()
    assert {len(line) for line in lines} == {width}
    assert len(lines) <= 20


def test_it_shows_what_the_job_does(bucket: MemoryStore) -> None:
    put_training(bucket)
    put_checkpoint(bucket, "digits", {"student.pt": b"x"}, step=400)
    shown = drawn(look_at(bucket), 100)
    for fact in (
        "digits  ● running · training", "running on 2 workers, 812 images/s", "412/700  59 %  ETA 45s",
        "student 89.2 %   teacher 95.3 %", "0.412   class 0.231   consistency 0.018 × 10.0",
        "90 % CPU, above the band", "1 ─ [2] ─ 4 workers   generation 1   0 resizes", "at step 400   0 steps lost",
        "1m 00s · Ctrl-C detaches, the job goes on",
    ):  # fmt: skip
        assert fact in shown


@pytest.mark.parametrize(
    ("percent", "words"), [(95.0, "above the band"), (55.0, "within the band"), (12.0, "below the band")]
)
def test_utilisation_is_set_against_the_band_in_words_too(bucket: MemoryStore, percent: float, words: str) -> None:
    put_training(bucket, percents=(percent, percent))
    assert f"{percent:.0f} % CPU, {words}" in drawn(look_at(bucket), 120)


def test_a_job_that_waits_for_its_images_says_so_and_what_would_help(bucket: MemoryStore) -> None:
    put_training(bucket)
    beat(bucket, "digits", data_wait=0.09)
    assert "waits for images" not in drawn(look_at(bucket), 100) + status_line(look_at(bucket))
    beat(bucket, "digits", data_wait=0.34)
    assert "waits for images 34 % of the time: more loading.workers or a faster disk" in drawn(look_at(bucket), 100)
    assert "waits for images 34 % of the time" in status_line(look_at(bucket))


def test_what_takes_long_before_the_first_step_is_the_reason_shown(bucket: MemoryStore) -> None:
    put_training(bucket)
    beat(bucket, "digits", activity="bringing 12,000 of 50,000 files from s3://b/p")
    assert "bringing 12,000 of 50,000 files from s3://b/p" in drawn(look_at(bucket), 100)
    beat(bucket, "digits", activity="bringing 12,000 of 50,000 files from s3://b/p", complaint="no answer from s3://b")
    assert "no answer from s3://b" in drawn(look_at(bucket), 100)


def test_before_there_is_anything_it_shows_nothing_made_up(bucket: MemoryStore) -> None:
    put_pending(bucket)
    shown = drawn(look_at(bucket), 80)
    assert "no step yet" in shown
    assert "0.0 %" not in shown
    assert "[1]" not in shown


def test_a_size_to_come_is_marked(bucket: MemoryStore) -> None:
    record = put_training(bucket)
    assert record.generation is not None
    change(bucket, "digits", upcoming=record.generation.model_copy(update={"number": 2, "rung": 2}))
    assert "1 ─ [2] ─ →4 workers   generation 1, 2 coming" in drawn(look_at(bucket), 100)


def test_what_is_wrong_is_said_in_the_picture(bucket: MemoryStore) -> None:
    put_training(bucket)
    now_s = [0.0]
    watch = JobWatch(bucket, "digits", lambda: NOW, lambda: now_s[0])
    watch.look()
    now_s[0] = 42.0
    shown = drawn(watch.look(), 120, controller_missing=True)
    assert "no word from the instances for 42s" in shown
    assert "elastic daemon" in shown


def test_colours_add_nothing_that_is_not_in_the_text(bucket: MemoryStore) -> None:
    put_training(bucket)
    look = look_at(bucket)
    coloured = drawn(look, 100, colours=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == drawn(look, 100)


def test_a_long_reason_goes_on_under_its_beginning(bucket: MemoryStore) -> None:
    put_training(bucket)
    tell(bucket, "digits", EventKind.SCALE_UP, "word " * 30)
    console = Console(file=io.StringIO(), width=80)
    look = look_at(bucket)
    console.print(event_line(look.new_events[-1], look))
    assert isinstance(console.file, io.StringIO)
    first, second, *_ = console.file.getvalue().splitlines()
    assert "scale up" in first
    assert second.index("word") == first.index("word")


def test_events_stay_above_the_picture_which_goes_at_the_end(bucket: MemoryStore) -> None:
    put_training(bucket)
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    watch = JobWatch(bucket, "digits", lambda: NOW, lambda: 0.0)
    with LiveView(console) as view:
        view.show(watch.look(), False)
        finish(bucket, "digits", JobPhase.SUCCEEDED, "finished at step 700")
        view.show(watch.look(), False)
    assert isinstance(console.file, io.StringIO)
    written = console.file.getvalue()
    assert "finished at step 700" in written
    shown = screen_of(written.replace("\n", "\r\n"), 80)  # as a terminal driver does
    assert [line.split()[1] for line in shown if line] == ["submitted", "starting", "training", "succeeded"]


@pytest.mark.parametrize(("share", "bar"), [(0, "────"), (0.5, "━━──"), (0.625, "━━╸─"), (1, "━━━━"), (1.5, "━━━━")])
def test_progress_is_told_by_shape(share: float, bar: str) -> None:
    assert progress_bar(share, 4).plain == bar


@pytest.mark.parametrize(
    ("percent", "bar"),
    [(None, "░░░│░░░░│░"), (0, "░░░│░░░░│░"), (50, "███│█░░░│░"), (100, "███│████│█")],
)
def test_the_band_is_marked_in_the_bar(percent: float | None, bar: str) -> None:
    assert utilization_bar(percent, 30, 80, 10).plain == bar
    assert utilization_scale(30, 80, 20).plain.index("80") == utilization_bar(percent, 30, 80, 20).plain.rindex("│")


def test_a_sparkline_has_a_character_a_sample() -> None:
    assert sparkline([0, 50, 100]) == "▁▅█"


def test_plain_lines_tell_events_at_once_and_the_state_every_few_seconds(bucket: MemoryStore) -> None:
    put_training(bucket)
    now_s, said = [0.0], list[str]()
    view = PlainView(said.append, lambda: now_s[0])
    watch = JobWatch(bucket, "digits", lambda: NOW, lambda: now_s[0])
    view.show(watch.look(), False)
    assert [line.split()[1].rstrip(":") for line in said[:3]] == ["submitted", "starting", "training"]
    assert status_line(look_at(bucket)) in said[3]
    beat(bucket, "digits", number=2, step=420)
    view.show(watch.look(), False)
    assert len(said) == 4
    now_s[0] += STATUS_EVERY_S
    view.show(watch.look(), True)
    assert "no controller is alive" in said[4]
    assert "step 420/700 (60 %)" in said[5]
    view.show(watch.look(), True)
    assert len(said) == 6
