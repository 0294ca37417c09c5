"""The job.yaml that `elastic init` writes: complete, true to the models, and ready to submit."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from orchestrator.spec.fields import job_fields
from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.spec.template import job_template
from tests.support.specs import trained
from trainer.config import DATASETS, Folders

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"
LENGTH = {"epochs": None, "steps": 1, "evaluate_every": 100}


def test_it_is_a_job() -> None:
    assert load_job(job_template("first")).name == "first"


def test_its_values_are_the_defaults_but_for_what_a_first_job_should_show() -> None:
    job = load_job(job_template())
    plain = load_job(f"name: my-job\ntraining: {{epochs: {trained(job).epochs}}}")

    assert [rung.workers for rung in job.resources.ladder] == [1, 2]
    shown_in_training = ("labels", "batch", "shards", "ema", "augmentation")
    shown = {
        "training": trained(job).model_copy(update={name: getattr(trained(plain), name) for name in shown_in_training}),
        "resources": plain.resources,
        "scaling": plain.scaling,
        "checkpoint": plain.checkpoint,
    }
    assert job.model_copy(update=shown) == plain


def test_it_trains_as_the_tuned_example_does() -> None:
    job, tuned = load_job(job_template()), load_job(EXAMPLE)

    assert trained(job).model_copy(update=LENGTH) == trained(tuned).model_copy(update=LENGTH)
    steps = [trained(each).plan(DATASETS["digits"]).total_steps for each in (job, tuned)]
    assert steps[0] == pytest.approx(steps[1], rel=0.05)
    assert (job.resources, job.scaling, job.checkpoint) == (tuned.resources, tuned.scaling, tuned.checkpoint)


def test_editors_find_the_schema_where_the_first_line_says() -> None:
    first = job_template().splitlines()[0]
    url = first.removeprefix("# yaml-language-server: $schema=")

    assert json.loads(Path(unquote(urlsplit(url).path)).read_text(encoding="utf-8"))["title"] == "job.yaml"


def test_every_field_is_there_with_its_meaning() -> None:
    text = job_template()
    said = " ".join(line.strip(" #") for line in text.splitlines())

    for section in job_fields().walk():
        for field in section.fields:
            assert re.search(rf"^[ #]*{field.name}:", text, re.MULTILINE), f"{section.path}.{field.name}"
            assert field.meaning in said, f"{section.path}.{field.name}"


def test_what_is_commented_out_is_right_too() -> None:
    """Whoever removes a '#' in front of a field gets a job that is read."""
    for line in job_template().splitlines():
        name = re.match(r"^ *# ([a-z_]+): \S*[^.]$", line)
        if name and name[1] in {"memory", "region", "steps", "command", "config", "working_dir", "threads"}:
            continue  # these exclude what stands beside them: processes, the local fleet, epochs, and training
        if name:
            load_job(job_template().replace(line, line.replace("# ", "", 1), 1))


def test_a_section_that_is_commented_out_is_right_too() -> None:
    lines = job_template().splitlines()
    start = lines.index("  # folders:")
    end = lines.index("", start)
    lines[start:end] = [line.replace("  # ", "  ", 1) for line in lines[start:end]]
    job = load_job("\n".join(lines).replace("dataset: digits", "dataset: folder"))

    assert trained(job).folders == Folders(labelled="data/train", test="data/test")


def test_lines_fit_a_terminal() -> None:
    assert max(len(line) for line in job_template().splitlines()[1:]) <= 120  # the first is a path


def test_the_list_of_fields_is_the_models() -> None:
    root = job_fields()
    names = {field.name for field in root.fields} | {section.path for section in root.sections}

    assert names == set(JobSpec.model_fields)
