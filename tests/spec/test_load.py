"""A job.yaml that cannot be used: one clear message for each mistake, at its line, and all of them at once."""

import random
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.spec.load import load_job
from orchestrator.spec.models import JobSpec
from orchestrator.spec.problems import Problem, SpecError
from orchestrator.spec.template import job_template
from tests.support.specs import trained

NAME_RULE = "must be lower-case letters, digits and hyphens, at most 63, not a hyphen first"
JOB = """\
name: digits
training:
  steps: 100
  batch: 64
  shards: 8
resources:
  ladder:
    - {workers: 1}
    - {workers: 2}
"""


def problems_of(text: str, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as refused:
        load_job(text, overrides)
    return refused.value.problems


def heads_of(text: str, *overrides: str) -> list[str]:
    """The first line of each problem: place, field and message."""
    return [str(problem).splitlines()[0] for problem in problems_of(text, *overrides)]


def test_a_good_job_is_read(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(JOB)

    job = load_job(file)

    assert job == load_job(JOB)
    assert (job.name, trained(job).steps) == ("digits", 100)
    assert [rung.world_size for rung in job.resources.ladder] == [1, 2]
    assert job.scaling.up_above == 80


def test_a_mistake_is_shown_as_by_a_compiler(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(JOB + "scaling:\n  window: 8s\n  cooldwn: 30s\n")

    with pytest.raises(SpecError) as refused:
        load_job(file)

    assert str(refused.value) == "\n".join(
        [
            f"{file}:12:3: scaling.cooldwn: unknown field (did you mean 'cooldown'?)",
            "   12 |   cooldwn: 30s",
            "      |   ^^^^^^^",
        ]
    )
    assert refused.value.exit_code == 2


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
    name: Digits!
    training:
      steps: 100
      epochs: 3
      labels: 5000
      optimiser: {lr: 1}
      optimizer:
        lr: fast
    scaling:
      window: 60
      up_above: 20
      min: 4
      max: 2
    """

    assert heads_of(dedent(text)) == [
        f"job.yaml:1:7: name: {NAME_RULE} (try 'digits')",
        "job.yaml:3:10: training.steps: epochs is given too; keep one of the two",
        "job.yaml:5:11: training.labels: 5000 labels are more than digits has training images: 1437",
        "job.yaml:6:3: training.optimiser: unknown field (did you mean 'optimizer'?)",
        "job.yaml:8:9: training.optimizer.lr: must be a number",
        "job.yaml:10:11: scaling.window: the unit is missing: write 60s",
        "job.yaml:11:13: scaling.up_above: must be above down_below (30), or the job would grow and shrink by turns",
        "job.yaml:12:8: scaling.min: 4 workers at least are more than 2 at most",
    ]


NOT_YAML = {
    "tab": ("name: a\n\tx: 1\n", "job.yaml:2:1: not YAML: ", "(indent with spaces, not tabs)"),
    "open quote": ("name: 'a", "job.yaml:1:9: not YAML: while scanning a quoted scalar", "end of stream"),
    "open bracket": ("labels: {a: [1", "job.yaml:1:15: not YAML: ", "expected ',' or ']'"),
    "colon in a value": ("name: a: b", "job.yaml:1:8: not YAML: mapping values are not allowed here", "needs quotes"),
    "two jobs": ("name: a\n---\nname: b\n", "job.yaml:2:1: not YAML: ", "(one job a file)"),
    "bell": ("name: \a", "job.yaml: not YAML: ", "#x0007"),
    "undefined alias": ("name: *a", "job.yaml:1:7: not YAML: found undefined alias", "'a'"),
    "empty": ("", "job.yaml: is empty", "`elastic init`"),
    "only comments": ("# nothing\n", "job.yaml: is empty", "`elastic init`"),
    "null": ("~", "job.yaml: is empty", "`elastic init`"),
    "a list": ("- name: a\n", "job.yaml: must be a mapping of fields", "'name: my-job'"),
    "a word": ("hello\n", "job.yaml: must be a mapping of fields", "'name: my-job'"),
    "deep": ("[" * 500, "job.yaml: not a job.yaml: nested too deeply", ""),
    "itself": ("name: &a [*a, *a]", "job.yaml:1:7: not a job.yaml: too many values", ""),
}


@pytest.mark.parametrize(("text", "start", "part"), NOT_YAML.values(), ids=list(NOT_YAML))
def test_what_is_no_yaml_has_one_message(text: str, start: str, part: str) -> None:
    (head,) = heads_of(text)

    assert head.startswith(start)
    assert part in head


@pytest.mark.parametrize("number", ["9" * 5000, f"0x{'f' * 5000}"], ids=["decimal", "hexadecimal"])
def test_a_number_with_more_digits_than_python_writes_is_refused(number: str) -> None:
    head, *_ = heads_of(JOB.replace("batch: 64", f"batch: {number}"))

    assert head == "job.yaml:4:10: not a number that can be read"


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    (head,) = heads_of("\n".join(lines))

    assert "too many values" in head


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(JOB)

    with pytest.raises(SpecError) as refused:
        load_job(tmp_path / "digit.yaml")

    assert str(refused.value) == f"{tmp_path}/digit.yaml: no such file (did you mean {tmp_path}/digits.yaml?)"


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file; there is no directory"):
        load_job(tmp_path / "nowhere" / "job.yaml")


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"is a directory, not a job\.yaml$"):
        load_job(tmp_path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"name: a\nlabels: {x: \xff}\n", "is not UTF-8 text: byte 0xff in line 2; save it as UTF-8"),
        (b"name: x\n" * 200_000, "is no job.yaml: more than 1000 kB"),
    ],
    ids=["not UTF-8", "too large"],
)
def test_a_file_that_is_no_text_of_ours(tmp_path: Path, body: bytes, message: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(body)

    with pytest.raises(SpecError) as refused:
        load_job(file)

    assert str(refused.value) == f"{file}: {message}"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + JOB.encode())

    assert load_job(file).name == "digits"


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "DB_PASSWORD", "PGPASSWORD", "password", "API_KEY"],
)
def test_a_secret_in_the_environment_is_refused_and_not_printed(name: str) -> None:
    text = JOB.replace("resources:", f"resources:\n  env:\n    {name}: hunter2")

    with pytest.raises(SpecError, match=f"job.yaml:8:5: resources.env.{name}: looks like a secret") as refused:
        load_job(text)
    assert "hunter2" not in str(refused.value)

    with pytest.raises(SpecError, match="looks like a secret") as refused:
        load_job(JOB, [f"resources.env.{name}=hunter2"])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        "s3://AKIAEXAMPLE:hunter2@bucket/images",
        "s3://bucket/images?X-Amz-Signature=hunter2",
        "https://bucket.s3.amazonaws.com/images?X-Amz-Signature=hunter2",
        "s3://AKIAEXAMPLE:with/slash/hunter2@bucket/images",
        "s3://AKIAEXAMPLE:hunter2/images",
        "s3:/AKIAEXAMPLE:hunter2@bucket/images",
    ],
)
def test_credentials_in_a_folder_are_refused_and_not_printed(place: str) -> None:
    text = JOB.replace("training:", f"training:\n  dataset: folder\n  folders: {{labelled: '{place}', test: b}}")

    with pytest.raises(SpecError, match="must carry no credentials, for whoever") as refused:
        load_job(text)
    assert "hunter2" not in str(refused.value)
    assert str(refused.value).startswith("job.yaml:4:23: training.folders.labelled: ")
    assert "folders: {labelled: ..." in str(refused.value)

    with pytest.raises(SpecError, match="must carry no credentials") as refused:
        load_job(text.replace(place, "a"), [f"training.folders.labelled={place}"])
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("address", ["s3://AKIA:hun/ter2@bucket/a", "s3://b/a?Signature=hunter2", "s3:/K:hunter2@b"])
def test_credentials_are_not_printed_for_another_mistake_on_their_line_either(address: str) -> None:
    text = JOB.replace("training:", f"training:\n  dataset: folder\n  folders: {{labelled: '{address}', tset: b}}")

    with pytest.raises(SpecError, match="unknown field") as refused:
        load_job(text)
    assert "ter2" not in str(refused.value)
    [shown] = [problem for problem in refused.value.problems if "unknown field" in problem.message]
    line, mark = str(shown).splitlines()[1:]
    assert line[mark.index("^") :].startswith("tset: b")

    with pytest.raises(SpecError, match="unknown field") as refused:
        load_job(JOB, [f"training.folders={{labelled: '{address}', tset: b}}", "training.dataset=folder"])
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3:/bucket/a", "with two slashes before the bucket"),
        ("s3://[bucket/a", "names no bucket"),
        ("s3://", "names no bucket"),
        ("~nobody-of-this-name/x", "whom this machine does not know"),
        ("a\\0b", "none has a zero character"),
        ("gs://bucket/a", "must be a directory or s3://BUCKET/PREFIX, not gs://"),
    ],
)
def test_a_place_that_is_none_is_a_mistake_with_its_line(place: str, message: str) -> None:
    text = JOB.replace("training:", f'training:\n  dataset: folder\n  folders: {{labelled: "{place}", test: b}}')

    with pytest.raises(SpecError, match=message) as refused:
        load_job(text)
    assert str(refused.value).startswith("job.yaml:4:23: training.folders.labelled: ")


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "OMP_NUM_THREADS", "NCCL_DEBUG", "SECRETARY"])
def test_a_name_that_is_no_secret_is_let_through(name: str) -> None:
    assert load_job(JOB, [f"resources.env.{name}='1'"]).resources.env == {name: "1"}


def test_a_repair_brings_no_mistakes_of_its_own() -> None:
    # The default batch would not go with 256 shards, nor the default dataset with 5,000 labels: that is not the
    # person's mistake as long as nobody knows which batch and dataset are meant.
    text = JOB.replace("batch: 64", "batch: many\n  labelled_batch: 512\n  dataset: cifar\n  labels: 5000")

    assert [problem.field for problem in problems_of(text.replace("shards: 8", "shards: 256"))] == [
        "training.batch",
        "training.dataset",
    ]


def test_a_long_line_is_cut_around_the_mistake() -> None:
    text = JOB + "labels: {" + ", ".join(f"k{i}: v" for i in range(100)) + ", bad: 7}\n"

    (problem,) = problems_of(text)
    head, line, mark = str(problem).splitlines()

    assert max(len(line), len(mark)) < 130
    assert line[mark.index("^")] == "7"
    assert head.startswith("job.yaml:10:")


@pytest.mark.parametrize(
    "addition",
    ['labels: {"\u202egood": 7}', r'labels: {"\e[31m": 7}', r'"\e[31m": 7', 'checkpoint: {"\u009b31m": 7}'],
)
def test_a_file_cannot_command_the_terminal(addition: str) -> None:
    (problem,) = problems_of(f"{JOB}{addition}\n")

    assert all(character.isprintable() or character == "\n" for character in str(problem))


def test_a_duplicate_keeps_the_first_value_and_the_rest_is_checked() -> None:
    assert heads_of(JOB + "name: again\nscaling: {window: 8}\n") == [
        "job.yaml:10:1: name: duplicate key; line 1 has it already",
        "job.yaml:11:19: scaling.window: the unit is missing: write 8s",
    ]


def test_dates_and_clock_times_are_text() -> None:
    job = load_job(JOB + "labels: {on: 2026-11-24, at: 12:30}\n")

    assert job.labels == {"on": "2026-11-24", "at": "12:30"}


def test_what_is_submitted_is_what_was_written() -> None:
    job = load_job(JOB + "scaling: {window: 1m30s}\ncheckpoint: {keep_free: 4GiB}\n")

    assert job.scaling.window == 90
    assert job.checkpoint.keep_free == 4 * 2**30
    assert JobSpec.model_validate_json(job.model_dump_json()) == job


ODD_VALUES = [
    *("", "~", "yes", "1e5", ".nan", "-1", "[]", "{}", "9" * 5000, "''", "5s", "!!bool maybe", "!!set {a}", "<<"),
    *("&a b", "*a", "- - -", r'"\ud800"', "[1, {a: b}]", "2026-01-01", "0o9", "? x", "|", "'", "\u202e"),
]


def damaged(text: str, draw: random.Random) -> str:
    """A text with one to four lines lost, doubled, shifted, or given an odd value."""
    lines = text.splitlines()
    for _ in range(draw.randint(1, 4)):
        i = draw.randrange(len(lines))
        field, _, _ = lines[i].partition(":")
        lines[i : i + 1] = draw.choice([[], [lines[i]] * 2, [f"  {lines[i]}"], [f"{field}: {draw.choice(ODD_VALUES)}"]])
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_written_is_a_job_or_has_problems(seed: int) -> None:
    draw = random.Random(seed)
    refusals: list[SpecError] = []
    for _ in range(60):
        try:
            load_job(damaged(job_template(), draw))
        except SpecError as refusal:
            refusals.append(refusal)

    assert refusals
    assert all(refusal.problems for refusal in refusals)
