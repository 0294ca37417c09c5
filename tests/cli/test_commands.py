"""Each command on a store with jobs in it: what it prints, what it leaves, its exit code."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from orchestrator.cli.app import GROUPS
from orchestrator.jobs.bucket import load_record, load_spec
from orchestrator.jobs.events import EventKind
from orchestrator.jobs.phases import JobPhase
from orchestrator.jobs.requests import read_requests
from orchestrator.spec.load import load_job
from orchestrator.store.protocol import Store
from tests.cli.conftest import Elastic
from tests.cli.stored_jobs import JOB_YAML, NOW, change, finish, put_pending, put_training, tell, word_after_time
from tests.support.forbidden import no_entry
from tests.support.specs import trained

PROMISED_FIELDS = {
    "name", "phase", "generation", "size", "step", "total_steps", "metrics", "utilization_percent",
    "utilization_source", "resizes", "lost_steps", "spend_usd", "usd_per_hour", "max_cost_usd",
    "created_at", "started_at", "ended_at",
}  # fmt: skip


@pytest.fixture
def job_file(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(JOB_YAML)
    return str(path)


# --- submit -----------------------------------------------------------------------------------------------------------


def test_submit_puts_the_job_into_the_store_and_prints_its_name(elastic: Elastic, store: Store, job_file: str) -> None:
    outcome = elastic("submit", job_file, "--no-daemon", "--name", "mine", "--set", "training.seed=3")
    assert (outcome.code, outcome.out) == (0, "mine\n")
    assert "elastic follow mine" in outcome.err
    assert "elastic daemon" in outcome.err
    assert trained(load_spec(store, "mine")).seed == 3
    assert load_record(store, "mine").value.phase is JobPhase.PENDING


def test_submit_reads_standard_input(elastic: Elastic, store: Store) -> None:
    assert elastic("submit", "-", "--no-daemon", stdin=JOB_YAML).code == 0
    assert load_spec(store, "digits").labels == {"team": "vision"}


def test_a_dry_run_prints_a_job_that_can_be_submitted_and_writes_nothing(
    elastic: Elastic, store: Store, job_file: str
) -> None:
    outcome = elastic("submit", job_file, "--dry-run", "--set", "checkpoint.every=90s")
    assert outcome.code == 0
    assert "every: 1m30s" in outcome.out
    assert load_job(outcome.out) == load_job(Path(job_file), ["checkpoint.every=90s"])
    assert list(store.list("")) == []


OWN_IMAGES = """\
name: own
training:
  dataset: folder
  folders: {labelled: train, test: s3://a-bucket/test}
  labels: 100%
  epochs: 1
"""


def test_relative_paths_begin_at_the_job_file(elastic: Elastic, store: Store, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "own.yaml").write_text(OWN_IMAGES)
    outcome = elastic("submit", str(tmp_path / "own.yaml"), "--no-daemon")
    assert outcome.code == 0
    assert f"mean_teacher with resnet18 on {tmp_path}/train, 100% labelled, 1 epoch" in outcome.err
    folders = trained(load_spec(store, "own")).folders
    assert folders is not None
    assert (folders.labelled, folders.test) == (str(tmp_path / "train"), "s3://a-bucket/test")


@pytest.mark.parametrize(("make", "words"), [(None, "there is no such directory"), ("x", "is not a directory")])
def test_a_folder_that_is_not_there_is_told_at_once(
    elastic: Elastic, store: Store, tmp_path: Path, make: str | None, words: str
) -> None:
    if make:
        (tmp_path / "train").write_text(make)
    (tmp_path / "own.yaml").write_text(OWN_IMAGES)
    outcome = elastic("submit", str(tmp_path / "own.yaml"), "--no-daemon")
    assert outcome.code == 2
    assert f"training.folders.labelled: {tmp_path}/train: {words}" in outcome.err
    assert list(store.list("")) == []
    assert elastic("validate", str(tmp_path / "own.yaml")).code == 0


def test_a_folder_that_may_not_be_looked_at_is_told_at_once(elastic: Elastic, store: Store, tmp_path: Path) -> None:
    (tmp_path / "forbidden").mkdir()
    job = OWN_IMAGES.replace("labelled: train", f"labelled: {tmp_path}/forbidden/train")
    elastic("submit", "-", "--dry-run", stdin=job)  # whatever has to be imported is
    with no_entry(tmp_path / "forbidden"):
        outcome = elastic("submit", "-", "--dry-run", stdin=job)
    assert outcome.code == 2
    words = "this directory cannot be reached (Permission denied)"
    assert f"training.folders.labelled: {tmp_path}/forbidden/train: {words}; relative paths" in outcome.err


def test_submit_prints_the_status_as_json(elastic: Elastic, job_file: str) -> None:
    outcome = elastic("submit", job_file, "--no-daemon", "-o", "json")
    assert json.loads(outcome.out)["phase"] == "pending"


# --- ps and show ------------------------------------------------------------------------------------------------------


def test_ps_of_an_empty_store_says_what_to_do(elastic: Elastic) -> None:
    outcome = elastic("ps")
    assert (outcome.code, outcome.out) == (0, "")
    assert "elastic submit" in outcome.err


def test_ps_lists_what_runs_and_what_ended_lately(elastic: Elastic, store: Store) -> None:
    put_training(store, "running")
    for name, days in (("yesterday", 0.9), ("long-ago", 1.1)):
        put_pending(store, name)
        finish(store, name, JobPhase.CANCELLED, "cancelled", at=NOW - timedelta(days=days))
    outcome = elastic("ps", "-o", "name")
    assert set(outcome.out.split()) == {"running", "yesterday"}
    assert "1 older job not shown" in elastic("ps").err
    assert set(elastic("ps", "--all", "-o", "name").out.split()) == {"running", "yesterday", "long-ago"}


def test_ps_reads_of_a_job_that_it_does_not_show_nothing_but_the_record(elastic: Elastic, store: Store) -> None:
    put_training(store, "running")
    put_pending(store, "long-ago")
    finish(store, "long-ago", JobPhase.CANCELLED, "cancelled", at=NOW - timedelta(days=2))
    store.put("jobs/long-ago/spec.json", b"not json")
    store.put("jobs/long-ago/head.json", b"not json")
    assert "left out" not in elastic("ps").err
    assert "long-ago is left out" in elastic("ps", "--all").err


def test_ps_shows_how_far_a_job_is_and_cuts_nothing_when_piped(elastic: Elastic, store: Store) -> None:
    name = "a-name-of-sixty-three-characters-which-is-as-long-as-names-go-xx"[:63]
    put_training(store, name)
    header, line = elastic("ps", "--output", "wide").out.splitlines()
    assert header.split()[:4] == ["NAME", "PHASE", "WORKERS", "STEP"]
    assert name in line
    assert "412/700" in line
    assert "95.3 %" in line
    assert "running on 2 workers" in line
    assert not line.endswith(" ")


def test_ps_says_of_a_job_yaml_that_it_cannot_read_what_is_wrong_with_it(elastic: Elastic, store: Store) -> None:
    put_training(store, "sound")
    put_pending(store, "odd")
    store.put("jobs/odd/spec.json", b'{"name": "odd", "resources": {"ladder": [3]}}')
    outcome = elastic("ps", "-o", "name")
    assert (outcome.code, outcome.out) == (0, "sound\n")
    assert "odd is left out" in outcome.err
    assert "spec.json was written by another version" in outcome.err


def test_one_broken_job_does_not_hide_the_others(elastic: Elastic, store: Store) -> None:
    put_training(store, "sound")
    put_pending(store, "broken")
    store.put("jobs/broken/record.json", b"not json")
    outcome = elastic("ps", "-o", "name")
    assert (outcome.code, outcome.out) == (0, "sound\n")
    assert "broken is left out" in outcome.err


def test_show_has_all_promised_fields_in_json(elastic: Elastic, store: Store) -> None:
    put_training(store)
    shown = json.loads(elastic("show", "digits", "-o", "json").out)
    assert shown.keys() >= PROMISED_FIELDS
    assert shown["size"] == {"rung": 1, "instance": "local", "count": 1, "workers": 2}
    assert shown["metrics"]["teacher_accuracy"] == 0.953
    assert (shown["utilization_percent"], shown["utilization_source"]) == (90.0, "cpu")
    assert shown["created_at"].endswith("Z")


def test_yaml_says_the_same_as_json(elastic: Elastic, store: Store) -> None:
    put_training(store)
    as_json: dict[str, Any] = json.loads(elastic("show", "digits", "-o", "json").out)
    as_yaml: dict[str, Any] = YAML(typ="safe").load(elastic("show", "digits", "-o", "yaml").out)
    as_json.pop("created_at"), as_json.pop("started_at")  # YAML has a type for them
    as_yaml.pop("created_at"), as_yaml.pop("started_at")
    assert as_yaml == as_json


def test_show_is_a_page_with_the_last_events(elastic: Elastic, store: Store) -> None:
    put_training(store)
    page = elastic("show", "digits").out
    for fact in ("running · training", "step 412 of 700", "teacher 95.3 %", "2 workers on 1 × local, rung 2 of 3"):
        assert fact in page
    assert "90 % CPU; grows above 80 %, shrinks below 30 %" in page
    assert "generation 1 trains from step 0" in page
    assert "team=vision" in elastic("show", "digits", "-o", "wide").out


def test_what_people_want_of_a_job_shows_before_it_is_done(elastic: Elastic, store: Store) -> None:
    put_training(store)
    change(store, "digits", wanted="cancel")
    assert "running · cancelling" in elastic("ps").out


# --- events and wait --------------------------------------------------------------------------------------------------


def test_events_tell_what_happened_and_why(elastic: Elastic, store: Store) -> None:
    put_training(store)
    tell(store, "digits", EventKind.SCALE_UP, "utilisation 95 % is above 80 %")
    outcome = elastic("events", "digits")
    header, *rows = outcome.out.splitlines()
    assert header.split()[3] == "EVENT"
    assert [word_after_time(row, 2) for row in rows] == ["submitted", "starting", "training", "scale_up"]
    assert "utilisation 95 % is above 80 %" in outcome.out
    events = json.loads(elastic("events", "digits", "-o", "json").out)
    assert [event["number"] for event in events] == [1, 2, 3, 4]
    assert events[3]["inputs"] == {"rung": 0}
    assert '{"rung": 0}' in elastic("events", "digits", "-o", "wide").out


def test_following_events_ends_with_the_job_in_lines_of_json(elastic: Elastic, store: Store) -> None:
    put_training(store)
    finish(store, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    outcome = elastic("events", "digits", "-f", "-o", "json")
    assert [json.loads(line)["kind"] for line in outcome.out.splitlines()] == [
        "submitted", "starting", "training", "succeeded"
    ]  # fmt: skip


@pytest.mark.parametrize(("phase", "code"), [(JobPhase.SUCCEEDED, 0), (JobPhase.FAILED, 5), (JobPhase.CANCELLED, 3)])
def test_wait_tells_by_its_exit_code_how_the_job_ended(
    elastic: Elastic, store: Store, phase: JobPhase, code: int
) -> None:
    put_training(store)
    finish(store, "digits", phase, "because")
    outcome = elastic("wait", "digits", "-o", "json")
    assert outcome.code == code
    assert json.loads(outcome.out)["phase"] == phase
    assert elastic("follow", "digits").code == code


def test_wait_gives_up_after_its_timeout(elastic: Elastic, store: Store) -> None:
    put_training(store)
    outcome = elastic("wait", "digits", "--timeout", "10ms")
    assert outcome.code == 3
    assert "digits is still running" in outcome.err


def test_wait_for_a_phase(elastic: Elastic, store: Store) -> None:
    put_training(store)
    assert elastic("wait", "digits", "--for", "running").code == 0
    finish(store, "digits", JobPhase.SUCCEEDED, "finished")
    outcome = elastic("wait", "digits", "--for", "paused")
    assert outcome.code == 1
    assert "digits ended without being paused" in outcome.err


# --- follow -----------------------------------------------------------------------------------------------------------


def test_without_a_terminal_a_followed_job_is_told_in_lines_and_summed_up_on_stdout(
    elastic: Elastic, store: Store
) -> None:
    put_training(store)
    finish(store, "digits", JobPhase.SUCCEEDED, "finished at step 700")
    outcome = elastic("follow", "digits")
    assert outcome.code == 0
    assert "training: generation 1 trains from step 0" in outcome.err
    assert "elastic fetch digits" in outcome.err
    summary = outcome.out
    for fact in (
        "✔ digits succeeded",
        "teacher 95.3 %   student 89.2 %",
        "0 resizes, 1 generation",
        "412 of 700, 0 lost",
    ):
        assert fact in summary
    assert "1m 00s: 55s training, 5s waiting (first step after 5s)" in summary


def test_a_failed_job_is_shown_with_the_last_words_of_its_first_worker(elastic: Elastic, store: Store) -> None:
    from tests.cli.stored_jobs import log

    put_training(store)
    log(store, "digits", 1, 0, b"step 1\nRuntimeError: out of memory\n")
    finish(store, "digits", JobPhase.FAILED, "4 failures in a row without progress")
    outcome = elastic("follow", "digits")
    assert outcome.code == 5
    assert "✘ digits failed: 4 failures in a row" in outcome.out
    assert "RuntimeError: out of memory" in outcome.err
    assert "elastic logs digits" in outcome.err


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "kind", "workers"),
    [
        (("cancel", "digits"), "cancel", None),
        (("pause", "digits"), "pause", None),
        (("resize", "digits", "--workers", "4"), "resize", 4),
    ],
)
def test_a_request_is_left_in_the_store_with_who_asked(
    elastic: Elastic, store: Store, command: tuple[str, ...], kind: str, workers: int | None
) -> None:
    put_training(store)
    outcome = elastic(*command, "--no-daemon")
    assert (outcome.code, outcome.out) == (0, "")
    (request,) = read_requests(store, "digits")
    assert (request.kind, request.workers) == (kind, workers)
    assert "@" in request.by


def test_a_paused_job_is_resumed_and_a_held_one_given_back(elastic: Elastic, store: Store) -> None:
    put_training(store)
    change(store, "digits", phase=JobPhase.PAUSED, wanted="pause", pinned_rung=2)
    assert elastic("resume", "digits", "--no-daemon").code == 0
    assert elastic("resize", "digits", "--auto", "--no-daemon").code == 0
    assert [(r.kind, r.workers) for r in read_requests(store, "digits")] == [("resume", None), ("resize", None)]


def test_a_request_that_waits_is_taken_into_account(elastic: Elastic, store: Store) -> None:
    put_training(store)
    assert elastic("pause", "digits", "--no-daemon").code == 0
    assert elastic("pause", "digits", "--no-daemon").code == 2
    assert elastic("resume", "digits", "--no-daemon").code == 0


def test_cancelling_several_jobs_is_all_or_none(elastic: Elastic, store: Store) -> None:
    put_training(store, "one")
    put_training(store, "two")
    outcome = elastic("cancel", "one", "twoo", "--no-daemon")
    assert outcome.code == 2
    assert "did you mean 'two'" in outcome.err
    assert list(read_requests(store, "one")) == []
    assert elastic("cancel", "one", "two", "--no-daemon").code == 0
    assert [r.kind for job in ("one", "two") for r in read_requests(store, job)] == ["cancel", "cancel"]


def test_cancelling_what_is_being_cancelled_already_keeps_nothing_else_from_it(elastic: Elastic, store: Store) -> None:
    put_training(store, "one")
    put_training(store, "two")
    assert elastic("cancel", "two", "--no-daemon").code == 0
    outcome = elastic("cancel", "one", "two", "one", "--no-daemon")
    assert outcome.code == 0
    assert "Asked to cancel one." in outcome.err
    assert "two is being cancelled already." in outcome.err
    assert [len(list(read_requests(store, job))) for job in ("one", "two")] == [1, 1]


def test_many_are_cancelled_in_one_go_and_what_follows_is_said_once(elastic: Elastic, store: Store) -> None:
    jobs = [f"job-{number}" for number in range(40)]
    for job in jobs:
        put_pending(store, job)
    outcome = elastic("cancel", *jobs, "--no-daemon")
    assert outcome.code == 0
    assert outcome.err.splitlines()[:40] == [f"Asked to cancel {job}." for job in jobs]
    assert [line.split("   ")[0].strip() for line in outcome.err.splitlines()[40:]] == ["elastic ps"]
    assert {job for job in jobs for request in read_requests(store, job) if request.kind == "cancel"} == set(jobs)


def test_where_one_cannot_be_cancelled_it_says_that_none_is(elastic: Elastic, store: Store) -> None:
    put_training(store, "one")
    put_training(store, "two")
    finish(store, "two", JobPhase.SUCCEEDED, "finished")
    outcome = elastic("cancel", "one", "two", "--no-daemon")
    assert outcome.code == 2
    assert "two is over (succeeded)" in outcome.err
    assert "nothing was asked of any of the 2 jobs" in outcome.err
    assert list(read_requests(store, "one")) == []


def test_a_job_that_is_over_can_be_asked_nothing(elastic: Elastic, store: Store) -> None:
    put_training(store)
    finish(store, "digits", JobPhase.SUCCEEDED, "finished")
    for command in (["cancel"], ["pause"], ["resume"], ["resize", "--workers", "1"]):
        outcome = elastic(*command, "digits", "--no-daemon")
        assert outcome.code == 2
        assert "digits is over (succeeded)" in outcome.err


def test_resize_wants_a_size_or_auto(elastic: Elastic, store: Store) -> None:
    put_training(store)
    for options in ([], ["--workers", "2", "--auto"]):
        outcome = elastic("resize", "digits", *options)
        assert outcome.code == 2
        assert "--workers N" in outcome.err
    outcome = elastic("resize", "digits", "--workers", "3", "--no-daemon")
    assert outcome.code == 2
    assert "its ladder offers 1, 2, 4" in outcome.err


# --- job.yaml ---------------------------------------------------------------------------------------------------------


def test_init_writes_a_job_that_is_valid_and_never_writes_over_one(elastic: Elastic, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    assert elastic("init", str(path)).code == 0
    assert elastic("validate", str(path)).code == 0
    path.write_text("mine")
    outcome = elastic("init", str(path))
    assert outcome.code == 2
    assert "--force" in outcome.err
    assert path.read_text() == "mine"
    assert elastic("init", str(path), "--force").code == 0
    assert load_job(path).name == "my-job"


def test_validate_shows_every_mistake_of_every_file(elastic: Elastic, tmp_path: Path, job_file: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: Digits\ntraining:\n  epochs: 2\n  sed: 3\n")
    outcome = elastic("validate", job_file, str(bad), str(tmp_path / "absent.yaml"))
    assert outcome.code == 2
    assert f"{job_file}: fine" in outcome.err
    assert f"{bad}:1:" in outcome.err
    assert f"{bad}:4:" in outcome.err
    assert "did you mean 'seed'" in outcome.err
    assert "absent.yaml: no such file" in outcome.err


def test_schema_is_json_schema(elastic: Elastic) -> None:
    schema = json.loads(elastic("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "training" in schema["properties"]


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_version_in_each_format(elastic: Elastic) -> None:
    version = elastic("version", "-o", "name").out.strip()
    assert elastic("version").out == f"elastic {version}\n"
    assert elastic("--version").out == f"{version}\n"
    assert json.loads(elastic("version", "-o", "json").out)["elastic"] == version
    assert "torch " in elastic("version", "-o", "wide").out


def test_help_names_every_command_and_needs_no_store(elastic: Elastic) -> None:
    shown = elastic()
    assert shown.code == 0
    watch, change = "submit ps show logs events explain wait fetch follow", "cancel pause resume resize rm"
    for name in f"{watch} {change} init validate schema daemon agent doctor version".split():
        assert f" {name} " in shown.out
        assert elastic(name, "--help").code == 0


def test_help_lists_each_command_once_in_its_group(elastic: Elastic) -> None:
    shown = elastic("--help").out
    for group, names in GROUPS.items():
        _, _, below = shown.partition(f"\n{group}:\n")
        listed = [line.split()[0] for line in below.split("\n\n")[0].splitlines() if line[2] != " "]
        assert listed == list(names)
    assert "simulate" not in shown
    assert "its checkpoint holds." in " ".join(shown.split())  # no sentence is cut


def test_a_command_is_found_wherever_it_stands(elastic: Elastic, store: Store) -> None:
    put_pending(store, "here")
    assert elastic("--store", store.url, "ps", "-o", "name").out == elastic("ps", "-o", "name").out == "here\n"
    assert "Machinery:" in elastic("--help", "ps").out
    assert "Machinery:" not in elastic("ps", "--help").out
    outcome = elastic("pss")
    assert outcome.code == 2
    assert "Did you mean 'ps'" in outcome.err


def test_the_store_may_be_named_before_or_after_the_command(elastic: Elastic, store: Store, tmp_path: Path) -> None:
    put_pending(store, "here")
    other = str(tmp_path / "other")
    assert elastic("ps", "-o", "name").out == "here\n"
    assert elastic("--store", other, "ps", "-o", "name").out == ""
    assert elastic("ps", "-o", "name", "--store", other).out == ""
    assert elastic("--store", other, "ps", "-o", "name", "--store", store.url).out == "here\n"
