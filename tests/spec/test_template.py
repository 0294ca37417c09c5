"""The job.yaml that `elastic init` writes: complete, true to the models, and ready to submit."""

import re

from orchestrator.spec.fields import job_fields
from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.spec.template import job_template


def test_it_is_a_job() -> None:
    assert load_job(job_template("first")).name == "first"


def test_its_values_are_the_defaults_but_for_what_a_first_job_should_show() -> None:
    job = load_job(job_template())
    plain = load_job(f"name: my-job\ntraining: {{epochs: {job.training.epochs}}}")

    assert [rung.workers for rung in job.resources.ladder] == [1, 2]
    assert job.model_copy(update={"resources": plain.resources}) == plain


def test_every_field_is_there_with_its_meaning() -> None:
    text = job_template()
    said = " ".join(line.strip().removeprefix("#").strip() for line in text.splitlines())

    for section in job_fields().walk():
        for field in section.fields:
            assert re.search(rf"^[ #]*{field.name}:", text, re.MULTILINE), f"{section.path}.{field.name}"
            assert field.meaning in said, f"{section.path}.{field.name}"


def test_what_is_commented_out_is_right_too() -> None:
    """Whoever removes a '#' in front of a field gets a job that is read."""
    for line in job_template().splitlines():
        name = re.match(r"^ *# ([a-z_]+): \S+$", line)
        if name and name[1] in {"image", "steps"}:
            continue  # these exclude what stands beside them: the local fleet, and epochs
        if name:
            load_job(job_template().replace(line, line.replace("# ", "", 1), 1))


def test_lines_fit_a_terminal() -> None:
    assert max(len(line) for line in job_template().splitlines()) <= 120


def test_the_list_of_fields_is_the_models() -> None:
    root = job_fields()
    names = {field.name for field in root.fields} | {section.path for section in root.sections}

    assert names == set(JobSpec.model_fields)
